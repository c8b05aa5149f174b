"""Python code under limits of open files that are not those of the tests."""

from __future__ import annotations

import resource
import subprocess
import sys


def run_under_file_limit(soft: int, hard: int, code: str) -> list[str]:
    """What a process prints, line by line, that may have so many files open."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()

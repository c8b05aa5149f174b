"""Options, job files and cluster profiles as a user would give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lockstep.launcher.slurm.job_spec import JobSpec
from lockstep.launcher.submit import submission as submissions
from lockstep.launcher.submit.cluster_profiles import command_line
from lockstep.launcher.submit.option_layers import JobOptions, job_options

ODD_TEXTS = [
    "a b", "a\nb", "a'b", 'a"b', "$(touch PWNED)", "`touch PWNED`", "-x", "--help", "a;b", "a&&b\0", "x\ntouch PWNED #",
    "a\\b", "é", "\x1b[31m", "a\rb", "${HOME}", "~/x", " ", "", "a>b", "a|b<c", "%j\n", "!x", "\u2028",
]  # fmt: skip


def options_of(**given: Any) -> JobOptions:
    """The options of a command line."""
    return job_options([command_line(given)])


def write_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """``clusters.yaml`` where the command line looks for it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "lockstep").mkdir(parents=True)
    (tmp_path / "config" / "lockstep" / "clusters.yaml").write_text(text)


def compose(tmp_path: Path, **given: Any) -> submissions.Submission:
    """What would be sent for a script with these options."""
    options = options_of(**given)
    return submissions.compose(
        tmp_path / "r1",
        options,
        base=None,
        config="",
        program=["t.py", "--token", "x y"],
        cores=None,
        how="chain",
        requeue=False,
    )


def setup_of(*lines: str, modules: list[str] | None = None) -> JobSpec:
    """A job with these set-up lines and modules."""
    return JobSpec("run", "r", "w", setup=list(lines), modules=modules or [])

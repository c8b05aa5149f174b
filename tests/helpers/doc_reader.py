"""Somebody who reads a page of the documents and does what its blocks say, one after another."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.helpers.doc_blocks import Block, blocks_of
from tests.helpers.launch import WATCHDOG, Launch, runs_folder
from tests.helpers.readme import lines_that_are_missing

_ELLIPSIS = "…"


def own_files(folder: Path) -> None:
    """Write ``exp.py`` and ``exp.yaml`` of README's section on a model of one's own."""
    found = blocks_of("README.md")
    (folder / "exp.py").write_text(next(block.text for block in found if block.language == "python"))
    (folder / "exp.yaml").write_text(next(block.text for block in found if block.language == "yaml"))


@dataclass
class DocReader:
    """A shell of somebody's, with an installed ``launch``; where a page says ``launch``, it is started as tests do."""

    launch: Launch
    folder: Path
    env: dict[str, str] = field(default_factory=lambda: {"COLUMNS": "80"})
    background: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def shell(self, text: str, *, status: int = 0) -> str:
        """Run lines as they stand; return what they print."""
        done = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=WATCHDOG,
            check=False,
        )
        said = done.stdout.decode()
        assert done.returncode == status, f"{text}\n{said}"
        return said

    def start(self, line: str) -> subprocess.Popen[bytes]:
        """Run a line in another terminal."""
        process = subprocess.Popen(["bash", "-c", f"exec {line}"], cwd=self.folder, env=self._environment)
        self.background.append(process)
        return process

    @property
    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, **self.env, "PATH": path}

    def close(self) -> None:
        """End what is left in other terminals."""
        for process in self.background:
            if process.poll() is None:
                process.terminate()
            process.wait(WATCHDOG)

    def do(self, block: Block) -> None:
        """Do what a block says; of a session, see that it prints what it is said to."""
        if block.language != "console":
            self.shell("\n".join(block.commands()))
            return
        for command, shown in block.session():
            self.check(command, shown)

    def check(self, command: str, shown: list[str]) -> None:
        """Give a command, and see that it prints these lines."""
        words = shlex.split(command)
        refused = any(line.startswith("error: ") for line in shown)
        if words[0] != "launch":
            printed = self.shell(command)
        else:
            result = self.launch(*words[1:], cwd=self.folder, env=self.env)
            assert (result.status != 0) == refused, result.err
            printed = result.err + result.out
        told = [line for line in shown if line.strip() and line.strip() != _ELLIPSIS]
        assert lines_that_are_missing(told, printed) == [], printed

    def wait_for_steps(self, run: str) -> None:
        """Wait until a run in another terminal has done a step."""
        runs, deadline = Path(self.env.get("LOCKSTEP_RUNS", runs_folder())), time.monotonic() + WATCHDOG
        record = runs / run / "metrics.jsonl"
        while not record.exists() or '"step"' not in record.read_text():
            if time.monotonic() > deadline:
                pytest.fail(f"{run} has done no step")
            time.sleep(0.1)

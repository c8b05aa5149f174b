"""Starts the real ``launch``, other commands and programs, and finds the run folders that they leave."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockstep.launcher.manual.output_schemas import commands_with_schemas, output_schema

CODE = "from lockstep.launcher.cli.start import main; main()"
LAUNCH = [sys.executable, "-P", "-c", CODE]
WATCHDOG = 240  # seconds; a hung process group must not hang the suite


@dataclass(frozen=True)
class Result:
    """What a ``launch`` left: its exit status and what it printed."""

    status: int
    out: str
    err: str
    arguments: tuple[str, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """What ``--json`` printed; it is as the published schema says."""
        found = json.loads(self.out)
        validate_document(found, self.arguments)
        return found


def validate_document(found: dict[str, Any], arguments: Sequence[str]) -> None:
    """See that a document is as the schema of its command says."""
    import jsonschema

    for words in (2, 1):
        if "--json" in arguments and (command := " ".join(arguments[:words])) in commands_with_schemas():
            jsonschema.validate(found, output_schema(command))
            return


Launch = Callable[..., Result]


def run_command(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its exit status, and capture its output as text."""
    return subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, check=False, **options)


@dataclass(frozen=True)
class JobServer:
    """A program of ``tests/helpers/programs`` that answers each line of JSON with one."""

    process: subprocess.Popen[str]

    def ask(self, job: dict[str, Any]) -> Any:
        """The answer to one job."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextmanager
def job_server(program: str, **environment: str) -> Iterator[JobServer]:
    """Start a program that answers jobs; afterwards it is killed with all of its children."""
    from tests.helpers.warm_launch import start_program  # it imports this

    process = start_program(program, environment)
    try:
        yield JobServer(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # ranks that hang, too
        process.communicate()


def free_port() -> int:
    """A port of the loopback interface that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def runs_folder() -> Path:
    """Where the run folders of this test lie."""
    return Path(os.environ["LOCKSTEP_RUNS"])


def run_folder(name: str) -> Path:
    """The folder of the run of this name."""
    return runs_folder() / name


def outcome_of(name: str) -> dict[str, Any]:
    """How the run of this name ended."""
    return json.loads((run_folder(name) / "outcome.json").read_text())

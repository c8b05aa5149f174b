"""What a test does with a cluster: submit, wait, look, and break a node."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lockstep.launcher.sandbox import start as sandbox
from lockstep.launcher.slurm.sandbox_registry import SandboxRecord, read_record
from lockstep.launcher.slurm.slurm_client import parse_record

WATCHDOG = 120.0  # seconds; a watchdog: what is waited for takes some
END_STATES = (
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "PREEMPTED",
    "OUT_OF_MEMORY",
    "BOOT_FAIL",
)


def wait_until(condition: Callable[[], object], what: str, seconds: float = WATCHDOG) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.1)


@dataclass
class Cluster:
    folder: Path
    work: Path
    """Where jobs run and write; not a part of ``folder``."""

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def env(self) -> dict[str, str]:
        """The environment of a user of this cluster."""
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    @property
    def record(self) -> SandboxRecord:
        record = read_record(self.folder)
        assert record is not None
        return record

    def run(self, *command: str, given: str | None = None, check: bool = True) -> str:
        """One of SLURM's tools, or anything else; what it printed."""
        done = subprocess.run(
            command,
            input=given,
            env=self.env,
            cwd=self.work,
            capture_output=True,
            text=True,
            timeout=WATCHDOG,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done.stdout

    def sbatch(self, script: str, *options: str) -> str:
        """Submit a bash script's lines; the job's number. Its log is ``log(job)``, attempts after one another."""
        pattern = self.work / (
            "%A_%a.log" if any(o.startswith(("-a", "--array")) for o in options) else "%j.log"
        )
        out = self.run(
            "sbatch",
            "--parsable",
            "--open-mode=append",
            f"--output={pattern}",
            *options,
            given=f"#!/bin/bash\n{script}\n",
        )
        return out.strip()

    def preempting_job(self, *options: str) -> str:
        """A job of ``high`` that takes both nodes whole until it is cancelled: it preempts what runs there."""
        return self.sbatch("exec sleep 600", "--partition=high", "--nodes=2", "--exclusive", *options)

    def state(self, job: str) -> str:
        """``PENDING``, ``RUNNING``, …; ``GONE`` for a job that SLURM does not know."""
        return self.details(job).get("JobState", "GONE")

    def details(self, job: str) -> dict[str, str]:
        """What scontrol says; empty for a job that SLURM does not know."""
        said = self.run("scontrol", "-o", "show", "job", job, check=False)
        return parse_record(re.split(r"\n(?=JobId=)", said)[0])

    def wait_for(self, job: str, *states: str, seconds: float = WATCHDOG) -> str:
        """Wait until the job is in one of these states (``END_STATES`` if none is given), and say in which."""
        wanted = states or END_STATES
        wait_until(
            lambda: self.state(job) in wanted,
            f"job {job} {wanted}, log: {self.log(job)!r}, is {self.details(job)}",
            seconds,
        )
        return self.state(job)

    def start_now(self, job: str) -> None:
        """Let a job that was put back into the queue start before SLURM's two minutes are over.

        Not at once: within a second of the old start's end a node refuses the new one's credential for good.
        """
        if self.state(job) == "PENDING":
            time.sleep(3)
            self.run("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)

    def log(self, job: str) -> str:
        """What the job wrote so far; ``12_3`` for a task of an array."""
        path = self.work / f"{job}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for_log(self, job: str, text: str, seconds: float = WATCHDOG) -> None:
        wait_until(lambda: text in self.log(job), f"{text!r} in the log of {job}", seconds)

    def cancel(self, *jobs: str) -> None:
        self.run("scancel", *jobs, check=False)

    def cancel_all(self) -> None:
        """End every job at once, and wait until the nodes are free of them."""

        def empty() -> bool:
            left = set(self.run("squeue", "-h", "-o", "%A", check=False).split())
            if left:
                self.run("scancel", "--signal=KILL", "--full", *left, check=False)
                self.run("scancel", *left, check=False)
            return not left

        wait_until(empty, "no job in the queue")

    def node_states(self) -> dict[str, str]:
        return sandbox.node_states(self.folder)

    def kill_node(self, name: str) -> None:
        """SIGKILL a node's slurmd; what runs there goes on without it."""
        os.kill(self.record.daemons[name].pid, signal.SIGKILL)
        wait_until(lambda: name not in self.record.living(), f"{name} ends")

    def start_nodes(self) -> None:
        """Start the nodes that do not run, and wait until both are idle."""
        sandbox.start_nodes(self.folder)
        self.wait_idle()

    def wait_idle(self) -> None:
        wait_until(lambda: set(self.node_states().values()) == {"idle"}, f"idle nodes: {self.node_states()}")


def set_pace(folder: Path, seconds: float) -> None:
    """Seconds of each step from now on; whole or not at all, or a step that reads an empty file fails."""
    (folder / "pace.new").write_text(str(seconds))
    (folder / "pace.new").rename(folder / "pace")


def recorded_sbatch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[list[str]]]:
    """Let a wrapper stand before sbatch; the arguments of all calls so far, which must have had no input."""
    real, record = shutil.which("sbatch"), folder / "record"
    wrapper = folder / "bin" / "sbatch"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "text = sys.stdin.buffer.read().decode()\n"
        f"open({str(record)!r}, 'a').write(json.dumps([sys.argv[1:], text]) + '\\n')\n"
        f"os.execv({real!r}, [{real!r}, *sys.argv[1:]])\n"
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")

    def calls() -> list[list[str]]:
        told = [json.loads(line) for line in record.read_text().splitlines()]
        assert {text for _, text in told} == {""}
        return [argv for argv, _ in told]

    return calls


def start_cluster(work: Path) -> Cluster:
    """A cluster of one's own, which ends with this process at the latest; end it with ``sandbox.down(folder)``."""
    reason = sandbox.why_unavailable()
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: a socket's path has 107 bytes
    sandbox.up(folder, guardian=os.getpid())
    return Cluster(folder, work)


def killing_sbatch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, sends: bool = False, tries: bool = True
) -> None:
    """Let sbatch kill whoever asks it to submit: after the job is in the queue, or before it sends anything.

    Without ``tries`` it kills who only asks whether SLURM would take the job.
    """
    real, wrapper = shutil.which("sbatch"), folder / "killing" / "sbatch"
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(
        f"#!{sys.executable}\n"
        "import os, signal, subprocess, sys\n"
        f"if {tries} and '--test-only' in sys.argv:\n"
        f"    os.execv({real!r}, [{real!r}, *sys.argv[1:]])\n"
        f"if {sends}:\n"
        f"    subprocess.run([{real!r}, *sys.argv[1:]], check=True)\n"
        "os.kill(os.getppid(), signal.SIGKILL)\n"
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")

"""Processes that write checkpoints until something happens to them.

No test: ``faults/test_checkpoint_faults.py`` starts it.

``python -m tests.helpers.programs.checkpoint_writer`` reads jobs from stdin, one JSON document a line, forks a process
for each, and answers with a line. A job has ``folder`` and either

- ``strace``: arguments. The child writes the checkpoint of step 1 unobserved, strace is attached, and it writes
  that of step 2, after which the one of step 1 may go. The answer is ``[exit status, the child's last words]``.
- ``steps``: the child writes steps 1 to that number; ``seconds`` after it has begun it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lockstep.training.checkpoint.background_writer import CheckpointWriter
from lockstep.training.checkpoint.storage import CheckpointContents
from lockstep.training.tracking.event_log import EventLog


def snapshot(step: int) -> CheckpointContents:
    """A checkpoint in which every value tells its step."""
    return CheckpointContents(
        model={"weight": torch.full((200, 100), float(step)), "bias": torch.full((3,), float(step))},
        optimizer={"weight/exp_avg": torch.full((200, 100), -float(step))},
        state={"step": step, "epoch": 0},
        rank_buffers={"norm.running_mean": torch.full((2, 4), float(step))},
        ema={"weight": torch.full((200, 100), step / 2)},
    )


@contextmanager
def writer(folder: Path) -> Iterator[CheckpointWriter]:
    """Keeps the newest only, which is the most that can be lost."""
    events = EventLog(folder / "metrics.jsonl")
    try:
        yield CheckpointWriter(folder / "checkpoints", events, lambda: None, keep_last=1)
    finally:
        events.close()


def _write_under_strace(job: dict[str, Any], report_writer: int, start_reader: int) -> None:
    """In the child: one checkpoint before it is observed, one while it is."""
    with writer(Path(job["folder"])) as one:
        one.write(snapshot(1), set())
        one.finish()
        os.write(report_writer, b"!")
        os.read(start_reader, 1)
        one._write(snapshot(2), set(), None)  # on this thread: strace counts calls by thread
        one.finish()


def _write_until_killed(job: dict[str, Any]) -> None:
    with writer(Path(job["folder"])) as one:
        one.open()
        for step in range(1, job["steps"] + 1):
            one.write(snapshot(step), set())
        one.finish()


def _attach(pid: int, arguments: list[str]) -> subprocess.Popen[bytes]:
    tracer = subprocess.Popen(["strace", "-f", "-p", str(pid), *arguments], stderr=subprocess.DEVNULL)
    while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text():
        if tracer.poll() is not None:
            raise RuntimeError("strace cannot attach to a process here")
        time.sleep(0.005)
    return tracer


def _answer(job: dict[str, Any]) -> list[Any]:
    report_reader, report_writer = os.pipe()
    start_reader, start_writer = os.pipe()
    if (pid := os.fork()) == 0:
        status = 0
        try:
            os.close(report_reader)
            if "strace" in job:
                _write_under_strace(job, report_writer, start_reader)
            else:
                _write_until_killed(job)
        except BaseException as error:  # noqa: BLE001 - the parent asks what it was
            status = 1
            os.write(report_writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(status)
    os.close(report_writer)
    tracer = None
    if "strace" in job:
        os.read(report_reader, 1)
        tracer = _attach(pid, job["strace"])
        os.write(start_writer, b"!")
    if "seconds" in job:
        time.sleep(job["seconds"])
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    words = os.read(report_reader, 10_000).decode()
    for descriptor in (report_reader, start_reader, start_writer):
        os.close(descriptor)
    if tracer is not None:
        tracer.wait()
    return [status, words]


def main() -> None:
    """Answer jobs until stdin ends."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

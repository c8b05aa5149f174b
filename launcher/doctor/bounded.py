"""Checks at the same time, each for a limited time: a file server or a tool that hangs holds up nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from .finding import FAIL, WARN, Check, Finding


def run_checks(checks: Sequence[Check]) -> Iterator[tuple[Check, list[Finding]]]:
    """Start all checks; yield each with what it has found, in their order, when its time is up at the latest."""
    found: dict[int, list[Finding]] = {}
    began = time.monotonic()
    threads = [
        threading.Thread(target=_run_check, args=(check, place, found), daemon=True)
        for place, check in enumerate(checks)
    ]
    for thread in threads:
        thread.start()
    for place, (check, thread) in enumerate(zip(checks, threads, strict=True)):
        thread.join(max(0.0, began + check.seconds - time.monotonic()))
        yield check, found.get(place) or [_silent(check)]


def _run_check(check: Check, place: int, found: dict[int, list[Finding]]) -> None:
    try:
        found[place] = list(check.look())
    except Exception as error:  # noqa: BLE001 - a check that cannot look is a finding, and the others go on
        said = f"could not be looked at: {type(error).__name__}: {error}"
        found[place] = [Finding(check.name, WARN, said, "look at it by hand")]


def _silent(check: Check) -> Finding:
    said = f"no answer within {check.seconds:g} s"
    return Finding(
        check.name, FAIL, said, "something hangs that a run would wait for, too: look at it with ps"
    )


def tool_output(command: Sequence[str], seconds: float) -> str | None:
    """Return what a tool prints; None where it is not installed.

    Raises:
        TimeoutError: it does not end in time; it is killed with all that it started.
        OSError: it ends with an error, and its last words are the message.
    """
    try:
        tool = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError:
        return None
    with tool:
        try:
            out, _ = tool.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(tool.pid, signal.SIGKILL)
            raise TimeoutError(f"{command[0]} has not answered within {seconds:g} s") from None
    if tool.returncode:
        last = (out.strip().splitlines() or ["it said nothing"])[-1]
        raise OSError(f"{command[0]} ended with status {tool.returncode}: {last}")
    return out

"""``launch scale``: another number of processes for a run that trains."""

from __future__ import annotations

import json
from pathlib import Path

from ...data.common import LockstepError, UsageError
from ..console import print_messages
from ..process import is_held
from ..runs import (
    LOCK,
    ScaleAnswer,
    ScaleRequest,
    find_run,
    read_scale_answer,
    wait_until,
    write_scale_request,
)


def scale_run(name: str, processes: int, wait: float) -> int:
    """Ask a run for another number of processes, and wait until it has them; the exit status.

    Args:
        name: of the run.
        processes: that it is to have.
        wait: seconds.

    Raises:
        UsageError: it does not run, or may not have that many.
        LockstepError: it has not changed within ``wait`` seconds, or could not.
    """
    folder = find_run(name)
    _refuse(folder, processes)
    request = write_scale_request(folder, processes)
    if request is None:
        raise LockstepError(f"{folder.name}: another request has not been taken yet", "ask again in a moment")
    answer = _await(folder, request, wait)
    if not answer.done:
        raise LockstepError(
            f"{folder.name} keeps its processes: {answer.message}", "`launch status` says how it is"
        )
    print_messages([f"{folder.name}: {answer.message}"])
    return 0


def _refuse(folder: Path, processes: int) -> None:
    """Refuse what is known to be impossible before anybody is asked."""
    elastic = json.loads((folder / "spec.json").read_text(encoding="utf-8"))["config"]["train"].get("elastic")
    if elastic is None:
        raise UsageError(
            f"{folder.name}: train.elastic is not set: the number of processes is fixed while it trains",
            "`launch stop` it and `launch resume` it with another --cpu or --gpus, or begin a run with"
            " train.logical_ranks and train.elastic",
        )
    if not elastic["min"] <= processes <= elastic["max"]:
        raise UsageError(
            f"{folder.name}: {processes} processes are not within train.elastic, {elastic['min']} to {elastic['max']}",
            "ask for a number within",
        )
    if not is_held(folder / LOCK):
        raise UsageError(
            f"{folder.name} is not running",
            f"`launch resume {folder.name} --cpu {processes}` continues it on that many",
        )


def _await(folder: Path, request: ScaleRequest, wait: float) -> ScaleAnswer:
    found: list[ScaleAnswer] = []

    def answered() -> bool:
        answer = read_scale_answer(folder, request)
        found.extend([] if answer is None else [answer])
        return answer is not None or not is_held(folder / LOCK)

    wait_until(answered, wait)
    answer = found[0] if found else read_scale_answer(folder, request)
    if answer is not None:
        return answer
    if is_held(folder / LOCK):
        raise LockstepError(
            f"{folder.name} has not changed its processes within {wait:g} s",
            "it may still do so; --wait longer",
        )
    raise LockstepError(f"{folder.name} ended before its processes changed", "`launch status` says how")

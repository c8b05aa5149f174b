"""How far a training is and how its loss went, from its folder alone: its plan, and samples of its record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ...training.tracking import events_backwards, parse_event

_REACH = 1 << 16  # bytes from the record's end that say how fast it is now
_READ_WHOLE = 1 << 20  # a record up to this size is read from end to end: 0.05 s
_TAIL = 1 << 12  # bytes from the end at which the last loss is looked for
_LOOKS = 32  # lines from a place in the record in which a step is looked for
_STEP = b'"event": "step"'
_PLANNED = ("steps", "steps_per_epoch", "batch_size")


def read_plan(folder: Path) -> dict[str, int]:
    """Return how many steps a training has, in all and in an epoch, and of how many samples; {} where nobody says."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        plan = json.loads((folder / "manifest.json").read_bytes())["plan"]
        found = {key: plan[key] for key in _PLANNED}
        if all(type(value) is int and value > 0 for value in found.values()):
            return found
    return {}


@dataclass(frozen=True)
class RunPace:
    """The pace of a run, of late."""

    samples_per_second: float | None
    seconds_left: float | None


def read_pace(folder: Path, plan: Mapping[str, int], now: float) -> RunPace:
    """Read how fast the run's newest attempt is, and when it will be done at that pace.

    Args:
        folder: of the run.
        plan: of the run.
        now: seconds since 1970.
    """
    seen: list[tuple[float, int]] = []
    rate = None
    for event in events_backwards(folder / "metrics.jsonl", reach=_REACH):
        if event["event"] == "start":
            break
        if event["event"] == "step" and isinstance(event.get("time"), int | float) and "step" in event:
            seen.append((event["time"], event["step"]))
            rate = rate or event.get("samples_per_second")
    if len(seen) < 2 or seen[0][1] <= seen[-1][1]:  # noqa: PLR2004 - two make a pace
        return RunPace(rate, None)
    (ended, last), (begun, first) = seen[0], seen[-1]
    left = (plan["steps"] - last) * (ended - begun) / (last - first) - (now - ended)
    return RunPace(rate, max(0.0, left))


def read_losses(folder: Path, count: int) -> list[float | None]:
    """Read up to ``count`` training losses from all over the record; it takes no longer for a longer one."""
    try:
        file = (folder / "metrics.jsonl").open("rb")
    except OSError:
        return []
    with file:
        size = file.seek(0, 2)
        if size > _READ_WHOLE:
            last = size - _TAIL
            found = [_loss_from(file, last * place // (count - 1)) for place in range(count)]
            return [loss for known, loss in found if known]
        file.seek(0)
        losses = [loss for known, loss in map(_loss_of, file) if known]
    if len(losses) <= count:
        return losses
    return [losses[place * (len(losses) - 1) // (count - 1)] for place in range(count)]


def _loss_from(file: BinaryIO, place: int) -> tuple[bool, float | None]:
    """Return the first loss after a place in the record."""
    file.seek(place)
    if place:
        file.readline(_REACH)  # the rest of a line
    for _ in range(_LOOKS):
        known, loss = _loss_of(file.readline(_REACH))
        if known:
            return True, loss
    return False, None


def _loss_of(line: bytes) -> tuple[bool, float | None]:
    """Return whether a line is the row of some steps, and its loss; None is one that is not a number."""
    event: dict[str, Any] = parse_event(line) if _STEP in line else {}
    loss = event.get("train/loss", "")
    return (True, loss) if loss is None or isinstance(loss, float | int) else (False, None)

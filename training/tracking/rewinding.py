"""The record of a run that is resumed: cut where its checkpoint was taken, in a time that hardly grows with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ...data.common import file_named_in_errors
from .event_log import parse_event

_IN_ORDER = ("step", "epoch", "evaluation")
"""Events whose steps never fall: they are written between two steps. Others may be late."""
_LASTING = ("diverged", "diverged_rank")
"""Events that tell of a device rather than of the training: they stay, whatever is trained again."""
_NEAR = 1 << 16  # bytes that are parsed line by line rather than searched
_BLOCK = 1 << 20
_SUSPECT = re.compile(rb'^(?!\{"time": [^\n\0]*\}$).*$', re.MULTILINE)
"""A line that does not look as an event does: it is parsed. A power cut leaves zeros, or a line without its end."""


def rows_logged(state: Mapping[str, Any], steps: int) -> int:
    """Return how many epochs have their row in the record at a checkpoint.

    Args:
        state: the checkpoint's.
        steps: of the resumed run. The epoch that ``max_steps`` cut short has its row, unless it continues as well.
    """
    is_cut_short = state["step"] >= steps and state["epoch_step"] > 0 and not state["pending"]
    return int(state["epoch"]) + is_cut_short


def rewind(path: Path, step: int, epoch: int, *, pending: bool = False, anew: bool = False) -> int:
    """Cut the record where a checkpoint was taken: what was logged after it will be logged again, but for some events.

    Args:
        path: the record.
        step: steps done at the checkpoint.
        epoch: the first whose row is still to come, as ``rows_logged`` says.
        pending: the evaluation at the checkpoint is still to come.
        anew: a new file also where nothing is to be cut: what an attempt that was given up, but lives on,
            may still write goes into the old one, which nobody reads.

    Returns:
        How many lines before that cannot be read, as a power cut may leave them: they are dropped.
    """
    if not path.exists():
        return 0
    with path.open("rb") as file:
        end = _find_end(file, step, epoch, pending=pending)
        size = file.seek(0, os.SEEK_END)
        lost = sum(1 for _, block in _blocks(file, 0, end) for _ in _damaged(block))
        if not lost and not anew and end == size:
            return 0
        shorter = path.with_name(f".{path.name}.tmp")
        try:
            with file_named_in_errors(shorter):
                _copy(file, shorter, end, size)
        except OSError:
            shorter.unlink(missing_ok=True)
            raise
    shorter.replace(path)
    return lost


def find_near(file: BinaryIO, step: int) -> int:
    """Return the place of a line before which nothing of this step or a later one was written, not far from the first.

    Found by bisection, because the steps of the loop's own events never fall.

    Args:
        file: the record.
        step: optimizer steps done.
    """
    low, high = 0, file.seek(0, os.SEEK_END)
    while high - low > _NEAR:
        middle = (low + high) // 2
        found = _next_in_order(file, middle, high)
        if found is not None and found[1] < step:
            low = found[0]
        else:
            high = middle
    return low


def _find_end(file: BinaryIO, step: int, epoch: int, *, pending: bool) -> int:
    """Return the place of the first line that was written after the checkpoint, or of one without its end."""
    at = find_near(file, step)
    file.seek(at)
    for line in file:
        if not line.endswith(b"\n") or _is_after(parse_event(line), step, epoch, pending=pending):
            break
        at += len(line)
    return at


def _next_in_order(file: BinaryIO, start: int, end: int) -> tuple[int, int] | None:
    """Return place and step of the first of the loop's own events that begins between two places."""
    file.seek(start)
    at = start + len(file.readline())
    while at < end and (line := file.readline()):
        event = parse_event(line)
        if event.get("event") in _IN_ORDER:
            return at, event["step"]
        at += len(line)
    return None


def _is_after(event: Mapping[str, Any], step: int, epoch: int, *, pending: bool) -> bool:
    kind = event.get("event")
    if kind in _LASTING:
        return False
    if kind == "evaluation" and pending and event["step"] >= step:
        return True
    over = kind in ("end", "early_stop")  # said anew, where it is still true
    return bool(
        over or (kind and event.get("step", 0) > step) or (kind == "epoch" and event["epoch"] >= epoch)
    )


def _blocks(file: BinaryIO, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield place and content of blocks of whole lines from one place to another."""
    file.seek(at)
    while at < end:
        block = file.read(min(_BLOCK, end - at))
        if not block.endswith(b"\n"):
            block += file.readline()
        yield at, block
        at += len(block)


def _damaged(block: bytes) -> Iterator[tuple[int, int]]:
    """Yield begin and end of the lines in a block that hold no event."""
    for match in _SUSPECT.finditer(block):
        if match.start() < len(block) and not parse_event(match[0]):
            yield match.start(), match.end() + 1


def _lasting(block: bytes) -> Iterator[bytes]:
    """Yield the lines in a block that stay wherever the record is cut."""
    if any(f'"event": "{kind}"'.encode() in block for kind in _LASTING):
        for line in block.splitlines(keepends=True):
            if line.endswith(b"\n") and parse_event(line).get("event") in _LASTING:
                yield line


def _copy(file: BinaryIO, to: Path, end: int, size: int) -> None:
    """Copy the record up to a place, without the lines that cannot be read; then what stays of the rest."""
    with to.open("wb") as copy:
        for _, block in _blocks(file, 0, end):
            at = 0
            for begin, after in _damaged(block):
                copy.write(block[at:begin])
                at = after
            copy.write(block[at:])
        for _, block in _blocks(file, end, size):
            copy.writelines(_lasting(block))
        copy.flush()
        os.fsync(copy.fileno())

"""What hooks log: kept until it is due, brought together over the ranks, and written into the record in order."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.common import TrainingError
from ..rank import Group
from ..tracking import EventLog
from .pictures import as_picture, save_picture

RANK_0 = "rank0/"
"""Before the name of a number that is rank 0's alone."""
_NAME = re.compile(r"[\w.@-]+(/[\w.@-]+)*", re.ASCII)
_RESERVED = ("time", "event", "step", "epoch", "lr", "train/loss")


@dataclass(frozen=True)
class _Entry:
    """Something that was logged on this rank; numbers may still be on the device."""

    step: int
    epoch: int
    name: str
    value: Any
    count: Any = None
    """Of a pair (sum, count)."""


class HookLog:
    """The log of all hooks of this rank.

    Args:
        group: the ranks; all of them collect at the same points.
        events: rank 0's record.
        folder: of the run, for pictures.
        taken: names that the run logs itself.
    """

    def __init__(self, group: Group, events: EventLog, folder: Path, taken: list[str]) -> None:
        self.group = group
        self._events = events
        self.folder = folder
        self._taken = {*_RESERVED, *taken}
        self._entries: list[_Entry] = []
        self.at = (0, 0)
        """Step and epoch of what is logged now."""

    def log(self, name: str, value: Any) -> None:
        """Log something, as ``RunState.log`` says.

        Raises:
            TrainingError: the name or the value cannot be logged.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in self._taken:
            raise TrainingError(
                f"state.log: the name {name!r} is taken by the run itself, or is no name",
                "use letters, digits, _ and /: my/norm",
            )
        if isinstance(value, tuple) and len(value) == 2:  # noqa: PLR2004 - a pair
            if all(map(_is_number, value)):
                self._entries.append(_Entry(*self.at, name, *map(_kept, value)))
                return
        elif isinstance(value, str) or _is_number(value):
            self._add_of_rank_0(name, value)
            return
        elif self.group.rank != 0 or (picture := as_picture(value)) is not None:
            if self.group.rank == 0:
                path = save_picture(picture, self.folder, name, self.at[0])
                self._add_of_rank_0(name, path)
            return
        raise TrainingError(
            f"state.log({name!r}): {type(value).__name__} can not be logged",
            "log a number, a pair (sum, count), a text, or a picture",
        )

    def _add_of_rank_0(self, name: str, value: Any) -> None:
        if self.group.rank == 0:
            self._entries.append(_Entry(*self.at, name, _kept(value)))

    def collect(self, until: int) -> list[dict[str, Any]]:
        """Bring together what was logged up to a step. Collective.

        Returns:
            A row for each step: ``step``, ``epoch``, and ``values``, ``texts`` and ``pictures`` by name; the same on
            every rank.
        """
        due = [entry for entry in self._entries if entry.step <= until]
        self._entries = [entry for entry in self._entries if entry.step > until]
        own = json.dumps([_plain(entry) for entry in due]).encode()
        rows: dict[int, dict[str, Any]] = {}
        sums: dict[tuple[int, str], list[float]] = {}
        for payload in self.group.gather_bytes(own):
            for step, epoch, name, kind, value, count in json.loads(payload):
                row = rows.setdefault(
                    step, {"step": step, "epoch": epoch, "values": {}, "texts": {}, "pictures": {}}
                )
                if kind != "pairs":
                    row[kind][RANK_0 + name if kind == "values" else name] = value
                    continue
                total = sums.setdefault((step, name), [0.0, 0.0])
                total[0], total[1] = total[0] + value, total[1] + count
                row["values"][name] = total[0] / total[1] if total[1] else float("nan")
        return [rows[step] for step in sorted(rows)]

    def write_up_to(
        self, step: int, kind: str, own: dict[str, Any] | None = None, *, together: bool = True, **more: Any
    ) -> None:
        """Write what was logged up to a step, of each its numbers, then its texts and pictures. Collective.

        Args:
            step: the last one.
            kind: of the events.
            own: what the run itself has to say of that step; in one event with what was logged then.
            together: False where no rank can have logged anything: nothing is gathered.
            more: what each event says, too.
        """
        rows = self.collect(step) if together else []
        if own is not None:
            last = (
                rows.pop()
                if rows and rows[-1]["step"] == step
                else {"values": {}, "texts": {}, "pictures": {}}
            )
            rows.append({**last, **own, "values": {**own["values"], **last["values"]}})
        for row in rows:
            if row["values"]:
                self._events.write(kind, epoch=row["epoch"], step=row["step"], **more, **row["values"])
            self.write_others(row)

    def write_others(self, row: dict[str, Any]) -> None:
        """Write the texts and pictures of a row."""
        for name, text in row["texts"].items():
            self._events.write("text", step=row["step"], name=name, text=text)
        if row["pictures"]:
            self._events.write("pictures", step=row["step"], pictures=row["pictures"])


def _is_number(value: Any) -> bool:
    if isinstance(value, int | float):
        return True
    return getattr(value, "ndim", None) == 0 and hasattr(value, "item")


def _kept(value: Any) -> Any:
    """Keep a number on its device: a tensor may be written to before it is read."""
    return value.detach().clone() if hasattr(value, "detach") else value


def _plain(entry: _Entry) -> tuple[Any, ...]:
    """Make plain values of an entry: numbers are read from the device here, an interval after they were logged."""
    head = (entry.step, entry.epoch, entry.name)
    if isinstance(entry.value, Path):
        return (*head, "pictures", str(entry.value), None)
    if isinstance(entry.value, str):
        return (*head, "texts", entry.value, None)
    if entry.count is None:
        return (*head, "values", float(entry.value), None)
    return (*head, "pairs", float(entry.value), float(entry.count))

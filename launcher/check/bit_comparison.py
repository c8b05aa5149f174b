"""What differs first between the steps of one process and those of several, where every bit has to be equal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Mark = dict[str, Any]
"""What happened in a step: step, kind, name, part and digest."""
_Key = tuple[int, str, str, int, int]


@dataclass(frozen=True)
class BitDifference:
    """The first step in which two recordings differ, and what of it differs first."""

    step: int
    """Counted from 0."""
    sample: str = ""
    """The first that differs, of the epoch's order."""
    module: str = ""
    logical_rank: int = -1
    """In which the module's values differ."""
    gradient: str = ""
    """The first parameter in the order of a backward pass whose gradient differs."""
    weight: str = ""
    """The first that differs after the step."""
    before: bool = False
    """The weights differ before the first step."""


def read_recording(out: Path) -> tuple[list[list[Mark]], dict[str, list[str]]]:
    """Return the marks of each rank, and of each module its words and its place in the user's code."""
    documents = [
        json.loads((out / f"marks-{rank}.json").read_text(encoding="utf-8"))
        for rank in range(len(list(out.glob("marks-*.json"))))
    ]
    return [document["marks"] for document in documents], documents[0]["modules"]


def compare_bits(one: Sequence[Mark], ranks: Iterable[Sequence[Mark]]) -> BitDifference | None:
    """Compare what several ranks recorded with what one did; return None where all is equal."""
    known = {key: mark["digest"] for key, mark in _keyed(one)}
    seen: set[_Key] = set()
    differing: list[_Key] = []
    for marks in ranks:
        for key, mark in _keyed(marks):
            seen.add(key)
            if known.get(key) != mark["digest"]:
                differing.append(key)
    differing += [key for key in known if key not in seen]
    return _first(differing) if differing else None


def _keyed(marks: Sequence[Mark]) -> Iterable[tuple[_Key, Mark]]:
    """Yield each mark with a name of its own: a module may be called several times."""
    counted: Counter[tuple[int, str, str, int]] = Counter()
    for mark in marks:
        name = (mark["step"], mark["kind"], mark["name"], mark["part"])
        yield (*name, counted[name]), mark
        counted[name] += 1


def _first(differing: Sequence[_Key]) -> BitDifference:
    """Say what differs first; weights that differ before a step were made by the one before."""
    step = min(key[0] - (key[1] == "weights") for key in differing)
    here = [key for key in differing if key[0] == step and key[1] != "weights"]
    after = [key[2] for key in differing if key[:2] == (step + 1, "weights")]
    samples = sorted((key for key in here if key[1] == "sample"), key=lambda key: key[3])
    passes = [key for key in here if key[1] in ("enter", "leave")]
    part = min((key[3] for key in passes), default=-1)
    gradients = [key[2] for key in here if key[1] == "gradient"]
    return BitDifference(
        max(step, 0),
        samples[0][2] if samples else "",
        next((key[2] for key in passes if key[3] == part), ""),
        part,
        gradients[0] if gradients else "",
        after[0] if after else "",
        before=step < 0,
    )

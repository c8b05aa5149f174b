"""Samples that cannot be read, of a run that continues without them: which they are, and what takes their place."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..common import DamagedError, LockstepError, MemoryLimitError, TrainingError
from ..order import bits

_Split = TypeVar("_Split")
LEDGER = "bad_samples.jsonl"
"""In the run folder: a line for each sample that was skipped, whichever process, worker or attempt met it first."""
ATTEMPTS = 100
"""Draws of a sample in the place of a bad one. With 9 of 10 bad, all of them fail once in 40,000 times."""
_KEY = 0x7265706C616365  # "replace" in ASCII
_NAMED = 3  # bad samples in a message


def most_bad(limit: float, samples: int) -> int:
    """Compute how many samples of a split may be bad: a share below 1 of them, rounded up, or a number."""
    return math.ceil(limit * samples) if limit < 1 else int(limit)


def write_rows(file: Path, bad: Mapping[int, str]) -> None:
    """Write which rows are bad, and why."""
    file.write_text(json.dumps({str(row): bad[row] for row in sorted(bad)}), encoding="utf-8")


def known_rows(file: Path | str | None) -> dict[int, str]:
    """Read what ``write_rows`` wrote; nothing where there is no file."""
    if file is None or not Path(file).exists():
        return {}
    return {int(row): why for row, why in json.loads(Path(file).read_text(encoding="utf-8")).items()}


def is_bad_input(error: LockstepError) -> bool:
    """Tell whether an error is about what was read, and not about the machine or the settings."""
    return isinstance(error, DamagedError | TrainingError) and not isinstance(error, MemoryLimitError)


@dataclass(frozen=True)
class Skipping:
    """A rule for bad samples, where ``data.on_bad`` is ``skip``."""

    limit: float
    """``data.max_bad``."""
    seed: int
    folder: Path | None = None
    """Of the run; None keeps no record."""

    def of(self, split: str, samples: int) -> BadSamples:
        """Begin a record of a split's bad samples."""
        file = None if self.folder is None else self.folder / LEDGER
        return BadSamples(split, samples, most_bad(self.limit, samples), self.seed, file)


def skipping(split: _Split, name: str, rule: Skipping | None) -> _Split:
    """Have the bad samples of a split skipped.

    Args:
        split: ``ArraySplit`` or ``MapSplit``.
        name: of it.
        rule: None leaves it as it is.

    Raises:
        DamagedError: more samples are known to be bad than may be.
    """
    if rule is None:
        return split
    opened: Any = split
    bad = rule.of(name, len(opened))
    bad.note_all(opened.bad)
    skipped: _Split = replace(opened, skips=bad)
    return skipped


class BadSamples:
    """The bad samples of a split, as far as anybody has met them.

    Args:
        split: its name.
        samples: that it has.
        most: that may be bad.
        seed: of the replacements.
        file: shared by all processes and attempts of a run; None counts those of this process.
    """

    def __init__(self, split: str, samples: int, most: int, seed: int, file: Path | None) -> None:
        self._split = split
        self._samples = samples
        self._most = most
        self._seed = seed
        self._file = file
        self._found: dict[int, str] = {}
        self._read_to = 0
        self._ends_within_a_line = False

    def note(self, row: int, reason: str) -> None:
        """Record a bad sample, unless it is known already.

        Raises:
            DamagedError: there are more than there may be.
        """
        if row not in self._found:
            if self._file is None:
                self._found[row] = reason
            else:
                self._record(self._file, row, reason)
        self._refuse_too_many()

    def note_all(self, known: Mapping[int, str]) -> None:
        """Record samples that are known to be bad."""
        for row, reason in known.items():
            self.note(row, reason)

    def place(self, epoch: int, key: int, attempt: int) -> int:
        """Draw the place of the sample that is read instead: a function of (seed, epoch, key) and the attempt."""
        drawn = int(bits((_KEY, self._seed, epoch, attempt), np.array([key], np.uint64))[0])
        return drawn * self._samples >> 64

    def replacement(self, epoch: int, key: int, is_good: Callable[[int], bool]) -> int:
        """Draw until a place is good.

        Raises:
            DamagedError: none is, after many attempts.
        """
        for attempt in range(ATTEMPTS):
            if is_good(place := self.place(epoch, key, attempt)):
                return place
        raise self.exhausted()

    def exhausted(self) -> DamagedError:
        """Make the error for a bad sample in whose place no good one was found."""
        return DamagedError(
            f"data.on_bad: {ATTEMPTS} samples of {self._split} were drawn in the place of a bad one, all bad too",
            "correct the files: hardly any can be read",
        )

    def _record(self, file: Path, row: int, reason: str) -> None:
        with file.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            self._read_on(stream.fileno())
            if row not in self._found:
                self._found[row] = reason
                line = json.dumps({"split": self._split, "row": row, "reason": reason}) + "\n"
                # A line that was cut off, as by a full disk, ends here.
                stream.write(b"\n" * self._ends_within_a_line + line.encode())

    def _read_on(self, descriptor: int) -> None:
        """Read the lines that others have written since."""
        size = os.fstat(descriptor).st_size
        lines = os.pread(descriptor, size - self._read_to, self._read_to)
        whole = lines.rfind(b"\n") + 1
        self._read_to += whole
        self._ends_within_a_line = whole < len(lines)
        for entry in _entries(lines[:whole]):
            if entry["split"] == self._split:
                self._found.setdefault(entry["row"], entry["reason"])

    def _refuse_too_many(self) -> None:
        if len(self._found) > self._most:
            raise too_many_error(self._split, self._samples, self._most, self._found)


def _entries(lines: bytes) -> Iterator[dict[str, Any]]:
    """Parse whole lines, without those that were cut off when they were written."""
    for line in lines.splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and {"split", "row", "reason"} <= entry.keys():
                yield entry


def too_many_error(split: str, samples: int, most: int, found: Mapping[int, str]) -> DamagedError:
    """Make the error for more bad samples than there may be."""
    shown = [found[row] for row in list(found)[:_NAMED]]
    more = [f"and {len(found) - _NAMED:,} more"] if len(found) > _NAMED else []
    what = f"{len(found):,} of {samples:,} samples of {split} are bad, and data.max_bad allows {most:,}"
    return DamagedError(
        "\n".join([f"{what}:", *shown, *more]),
        "correct or remove these samples, or allow more of them: data.max_bad is a number, or a share below 1",
    )


def known_notes(split: str, samples: int, known: Mapping[int, str]) -> list[str]:
    """Say which samples are bad before the first step."""
    if not known:
        return []
    be = "is" if len(known) == 1 else "are"
    shown = "; ".join([known[row] for row in list(known)[:_NAMED]])
    more = "; …" if len(known) > _NAMED else ""
    return [f"{len(known):,} of {samples:,} samples of {split} {be} bad and skipped: {shown}{more}"]


class BadSamplesNews:
    """News of bad samples since it was asked last.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / LEDGER
        self._told = len(self._found())

    def message(self) -> str | None:
        """Say how many there are, where there are more than before."""
        found = self._found()
        new, self._told = len(found) - self._told, len(found)
        if new <= 0:
            return None
        return (
            f"{new:,} more bad {'sample was' if new == 1 else 'samples were'} skipped, {len(found):,} in all, such as"
            f" {found[-new]['reason']}; {LEDGER} in the run folder lists them"
        )

    def _found(self) -> list[dict[str, Any]]:
        try:
            return list(_entries(self._file.read_bytes()))
        except FileNotFoundError:
            return []

"""The column of targets of a CSV file: classes or numbers, whichever its values are."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .number_columns import WORDS, number_of

TargetType = Literal["class", "number"]
_MOST_LABELS = 100_000
_PADDED = re.compile(r"0\d+$")
"""What begins with a zero is a code, and no number that anybody would write so."""
_CURRENCIES = "$€£¥"
_DRESSED = re.compile(
    rf"[-+]?[{_CURRENCIES}]?\s?[-+]?\d{{1,3}}([,'\u2019\s]?\d{{3}})*([.,]\d+)?\s?[%{_CURRENCIES}]?"
)
"""A number with its unit, or with marks between its thousands."""
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?")
_ROWS_OF_A_CLASS = 10
"""Whole numbers that come less often than this on average are taken for quantities."""


@dataclass
class TargetColumn:
    """The column's values, as far as they have been read."""

    name: str
    decimal: str
    codes: list[NDArray[np.int64]] = field(default_factory=list)
    """Of each part, the number of each row's label."""
    labels: dict[str, int] = field(default_factory=dict)
    """Each label that came, and its number; None of them when there are too many."""
    numbers: list[NDArray[np.float64]] = field(default_factory=list)
    """Of each part, its values; NaN where one is missing."""
    no_number: tuple[int, str] | None = None
    """The first field that is none: its row and its text."""
    rows: int = 0

    def add(self, column: Any) -> None:
        """Take the column of one more part, read as texts."""
        texts = column.str.strip()
        if len(self.labels) <= _MOST_LABELS:
            self._add_labels(texts)
        if self.no_number is None:
            self._add_numbers(texts)
        self.rows += len(texts)

    def _add_labels(self, texts: Any) -> None:
        codes, uniques = texts.factorize()
        numbers = [self.labels.setdefault(text, len(self.labels)) for text in uniques.tolist()]
        self.codes.append(np.array(numbers, np.int64)[codes] if numbers else np.empty(0, np.int64))

    def _add_numbers(self, texts: Any) -> None:
        read = [number_of(text, self.decimal) for text in texts.tolist()]
        if None in read:
            row = read.index(None)
            self.no_number = (self.rows + row, texts.iloc[row])
        else:
            self.numbers.append(np.array(read, np.float64))

    def guess(self) -> tuple[TargetType, str]:
        """Say what the values are, and why."""
        if self.no_number is not None:
            return "class", f"column {self.name!r} holds texts"
        if any(label.lower() in WORDS for label in self.labels):
            return "class", f"column {self.name!r} holds true and false"
        if padded := next((label for label in self.labels if _PADDED.match(label)), None):
            return "class", f"column {self.name!r} holds codes such as {padded}"
        values = np.concatenate(self.numbers)
        found = np.unique(values[np.isfinite(values)])
        whole = bool(found.size) and bool((found == np.floor(found)).all())
        if not whole:
            return "number", f"column {self.name!r} holds fractions"
        start = found[0] in (0, 1) and found[-1] - found[0] == found.size - 1
        if start and values.size >= _ROWS_OF_A_CLASS * found.size:
            return "class", f"column {self.name!r} holds the whole numbers {found[0]:.0f} to {found[-1]:.0f}"
        return "number", f"column {self.name!r} holds whole numbers from {found[0]:.0f} to {found[-1]:.0f}"

    def quantity_in_texts(self) -> tuple[str, str] | None:
        """Return what rare texts are that are no names, ``dates`` or ``quantities``, and one of them."""
        labels = [label for label in self.labels if not math.isnan(number_of(label, self.decimal) or 0.0)]
        if self.no_number is None or self.rows >= _ROWS_OF_A_CLASS * len(labels):
            return None
        kinds = (("dates", _DATE), ("quantities", _DRESSED))
        return next(
            ((what, self.no_number[1]) for what, form in kinds if all(map(form.fullmatch, labels))), None
        )

    def texts(self) -> list[str]:
        """Return the labels of all rows."""
        names = list(self.labels)
        return [names[code] for part in self.codes for code in part.tolist()]

    @property
    def too_many_labels(self) -> bool:
        """Tell whether there are more labels than classes can be."""
        return len(self.labels) > _MOST_LABELS

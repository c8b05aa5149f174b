"""Which columns are input and target, and the samples that rows become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .column_values import convert
from .shard_format import BadRowError, Values

_NUMBERS = ("int", "float")


@dataclass(frozen=True)
class SampleLayout:
    """The columns that a sample is made of."""

    kinds: Mapping[str, str]
    """Of all columns."""
    input: str | tuple[str, ...] | None = None
    """A column, or several; with no target the sample is the row."""
    target: str | tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    """Texts of a target that become numbers."""
    decode: Callable[[dict[str, Any]], Any] | None = None
    """A user's function of a row."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Return the columns that are needed; None is all."""
        if self.decode:
            return None
        if self.target is None:
            return tuple(self.kinds)
        return tuple(dict.fromkeys([*_names(self.input), *_names(self.target)]))

    def batch(self, columns: dict[str, Values]) -> Any:
        """Make the columns of some rows a tree of arrays [rows, ...] and lists.

        Raises:
            BadRowError: a value is of another kind than its column.
        """
        converted = {
            name: convert(self.kinds.get(name, "other"), name, values) for name, values in columns.items()
        }
        if self.target is None:
            return converted
        if self.classes is not None and isinstance(self.target, str):
            converted[self.target] = self._numbered(converted[self.target])
        return _side(self.input, converted, self.kinds), _side(self.target, converted, self.kinds)

    def _numbered(self, texts: Values) -> Values:
        number = {name: at for at, name in enumerate(self.classes or ())}
        for row, text in enumerate(texts):
            if text not in number:
                shown = ", ".join(list(number)[:5])
                raise BadRowError(row, f"{self.target!r} is {text!r}, none of the classes {shown}")
        return np.array([number[text] for text in texts], np.int64)


def _names(side: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if side is None else (side,) if isinstance(side, str) else side


def _side(side: str | tuple[str, ...] | None, columns: dict[str, Values], kinds: Mapping[str, str]) -> Any:
    """Take the columns of one side: one as it is, single numbers as one vector, others as a dict."""
    if isinstance(side, str):
        return columns[side]
    names = _names(side)
    if all(kinds.get(name) in _NUMBERS for name in names):
        return np.stack([np.asarray(columns[name]) for name in names], axis=1)
    return {name: columns[name] for name in names}

"""The columns of the table of epochs: as many as a line has room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LEAST = 9  # of a column whose name stands in one line: four of them fit 80 characters
_NARROW = 8  # of one whose name stands in two, which the values of most metrics fit
_FIRST = 5  # of the epoch's number
_SPEEDS = {"samples/s": 9, "seconds": 8}


@dataclass(frozen=True)
class EpochColumns:
    """The columns that are shown."""

    metrics: Mapping[str, int]
    """Key of each metric, and how wide its column is."""
    speeds: tuple[str, ...]
    """Those of ``samples/s`` and ``seconds`` that have room."""
    in_two_lines: bool = False

    @property
    def width(self) -> int:
        """How many characters a row has."""
        return _FIRST + sum(
            size + 2 for size in (*self.metrics.values(), *map(_SPEEDS.__getitem__, self.speeds))
        )

    def heads(self) -> str:
        """Return the line, or the two lines, above the rows."""
        names = [(*key.split("/", 1), size) for key, size in self.metrics.items()]
        speeds = [("", name, _SPEEDS[name]) for name in self.speeds]
        if not self.in_two_lines:
            shown = [(f"{kind} {name}".strip(), size) for kind, name, size in (*names, *speeds)]
            return f"epoch{''.join(f'  {text:>{size}}' for text, size in shown)}\n"
        upper = "".join(f"  {kind:>{size}}" for kind, _, size in (*names, *speeds))
        lower = "".join(f"  {name:>{size}}" for _, name, size in (*names, *speeds))
        return f"{' ' * _FIRST}{upper}".rstrip() + f"\nepoch{lower}\n"

    def row(self, name: str, values: Mapping[str, str]) -> str:
        """Return a row: ``values`` by the metric's key or the speed's name."""
        sizes = {**self.metrics, **{speed: _SPEEDS[speed] for speed in self.speeds}}
        cells = "".join(f"  {values.get(key, ''):>{size}}" for key, size in sizes.items())
        return f"{name:>{_FIRST}}{cells}\n"


def epoch_columns(keys: Sequence[str], width: int | None) -> EpochColumns:
    """Choose the columns for metrics named as in the record, such as ``val/loss``.

    Where names in one line have no room, they stand in two; then the seconds go, the samples per second, what was
    measured in training besides the loss, and the last metrics. The record has all of them.

    Args:
        keys: of the metrics.
        width: that a line may have; None is any.
    """
    columns = EpochColumns({key: max(_LEAST, len(key)) for key in keys}, tuple(_SPEEDS))
    if width is None or columns.width <= width:
        return columns
    sizes = {key: max(_NARROW, *map(len, key.split("/", 1))) for key in keys}
    columns = EpochColumns(sizes, tuple(_SPEEDS), in_two_lines=True)
    while columns.width > width and (columns.speeds or len(columns.metrics) > 1):
        sizes = dict(columns.metrics)
        if not columns.speeds:
            terms = [key for key in sizes if key.startswith("train/") and key != "train/loss"]
            del sizes[[*(terms or sizes)][-1]]
        columns = EpochColumns(sizes, columns.speeds[:-1], in_two_lines=True)
    return columns

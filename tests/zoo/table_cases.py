"""Columns of numbers in CSV files.

The numbers are those of a plain loop in torch over the whole set, six steps of SGD at 0.1 in fp64.
"""

from __future__ import annotations

from pathlib import Path

from tests.zoo.case import Case, Refused, Trains

SETTINGS = (
    "data.use=csv",
    "data.args={train_csv: train.csv, val_csv: val.csv, target: price, dtype: float64}",
    "data.batch_size=24",
    "train.epochs=6",
    "loss={use: mse}",
)
MODEL = """
def model():
    m = nn.Linear(2, 1)
    nn.init.constant_(m.weight, 0.1)
    nn.init.constant_(m.bias, 0.0)
    return m
"""


def _rows(first: int, count: int, *, gaps: bool) -> str:
    lines = ["rooms; area; price"]
    for n in range(first, first + count):
        rooms = "" if gaps and n % 7 == 0 else str(n % 5 - 2)
        area = n * 37 % 11 / 4 - 1.25
        lines.append(f"{rooms}; {area}; {0.5 * (n % 5) - area}")
    return "\n".join(lines)


def _whole(folder: Path) -> None:
    (folder / "train.csv").write_text(_rows(0, 24, gaps=False))
    (folder / "val.csv").write_text(_rows(24, 12, gaps=False))


def _with_gaps(folder: Path) -> None:
    (folder / "train.csv").write_text(_rows(0, 24, gaps=True))
    (folder / "val.csv").write_text(_rows(24, 12, gaps=False))


TABLE_CASES = [
    Case(
        "table: numbers",
        MODEL,
        Trains({"val/loss": 0.1963757285495149, "val/count": 12}),
        SETTINGS,
        files=_whole,
    ),
    Case(
        "table: missing values filled, columns standardized",
        MODEL,
        Trains({"val/loss": 0.20383563462746832, "val/count": 12}),
        (*SETTINGS, "data.args.fill_missing=mean", "data.args.standardize=true"),
        notes=("missing values of train that were filled: rooms 4",),
        files=_with_gaps,
    ),
    Case(
        "table: missing values",
        MODEL,
        Refused(2, ("column 'rooms' has no value in 4 of 24 rows, the first in line 2", "fill_missing=mean")),
        SETTINGS,
        files=_with_gaps,
    ),
]

"""The arrays of a set of CSV files: inputs and targets of each split, and what there is to say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import save_array
from ..common import DamagedError, UsageError
from ..sources import CsvFile, Table, class_names, label_notes
from .csv_numbers import ColumnSums, Floats, RawColumns, extract_columns, missing_error, write_array
from .target_column import TargetColumn

_EXACT = {"float32": 2**24, "float64": 2**53}
_MAX_NOTED = 5
_COUNTED = 20
"""Rows from which on no column counts them by chance."""


@dataclass(frozen=True)
class Settings:
    """The settings that decide the arrays, besides the files."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    target_type: str | None
    classes: tuple[str, ...] | None
    standardize: bool
    fill: str | float | None
    decimal: str
    dtype: str

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return asdict(self)


class ArraysBuilder:
    """Builds the arrays of all splits in a folder.

    Args:
        tables: the files by split; those of ``train`` decide classes, means and deviations.
        settings: of the set.
        folder: to write into.
    """

    def __init__(self, tables: dict[str, CsvFile], settings: Settings, folder: Path) -> None:
        self._tables = tables
        self._settings = settings
        self._folder = folder
        self._notes: list[str] = []
        self._why = ""
        self._is_class = False
        self._names: tuple[str, ...] | None = None

    def build(self) -> dict[str, Any]:
        """Write ``train_x.npy``, ``train_y.npy`` and those of ``val``; return the facts.

        Raises:
            UsageError: a column is not what it was asked for.
            DamagedError: a field is wrong.
        """
        train: ColumnSums | None = None
        for which, csv in self._tables.items():
            raw, target = self._read(which, csv)
            if which == "train" and target is not None:
                self._decide(csv, target)
            if raw.sums is None or raw.rows == 0:
                raise DamagedError(f"{csv.file} has no rows", "each line is a sample")
            self._refuse_missing(csv, raw)
            train = raw.sums if train is None else train
            self._write(which, csv, raw, target, train)
            raw.file.unlink()
        return {"classes": self._names, "notes": self._notes, "why": self._why}

    def _read(self, which: str, csv: CsvFile) -> tuple[RawColumns, TargetColumn | None]:
        settings = self._settings
        names = (*settings.inputs, *(settings.targets if len(settings.targets) > 1 else ()))
        target = None if len(settings.targets) > 1 else TargetColumn(settings.targets[0], settings.decimal)
        taker = None if target is None else (target.name, target.add)
        raw = extract_columns(csv, names, settings.decimal, self._folder / f"{which}.raw", taker)
        return raw, target

    def _decide(self, csv: CsvFile, target: TargetColumn) -> None:
        """Say whether the target is a class, and which classes there are."""
        if not self._settings.target_type and not self._settings.classes:
            _refuse_quantities(csv, target)
        kind, self._why = (self._settings.target_type, "") if self._settings.target_type else target.guess()
        self._is_class = kind == "class"
        if not self._is_class:
            return
        if target.too_many_labels:
            raise UsageError(
                f"{csv.file}: column {target.name!r} holds too many different values for classes",
                "is it a quantity? then data.args.target_type=number",
            )
        table = Table(csv.file, csv.separator, csv.blanks_follow, csv.names, [], target.texts())
        given = self._settings.classes
        self._names = given or class_names(table)
        self._notes += label_notes(table, self._names, given=given is not None)

    def _refuse_missing(self, csv: CsvFile, raw: RawColumns) -> None:
        known = {
            name: found
            for name, found in raw.missing.items()
            if self._settings.fill is None or name in self._settings.targets
        }
        if known:
            raw.missing = known
            raise missing_error(csv, raw, can_fill=not set(known) & set(self._settings.targets))

    def _write(
        self, which: str, csv: CsvFile, raw: RawColumns, target: TargetColumn | None, train: ColumnSums
    ) -> None:
        settings, inputs = self._settings, len(self._settings.inputs)
        scale = self._scale(which, csv, train) if settings.standardize else None
        fill = None if settings.fill is None else _fill_values(settings.fill, train)
        self._refuse_overflow(csv, raw, fill, scale)
        x = RawColumns(raw.file, raw.columns, raw.rows)
        write_array(self._folder / f"{which}_x.npy", x, settings.dtype, slice(0, inputs), fill, scale)
        if target is None:
            y = slice(inputs, raw.columns)
            write_array(self._folder / f"{which}_y.npy", x, settings.dtype, y, None, None)
        else:
            save_array(self._folder / f"{which}_y.npy", self._targets(csv, target))
        if which == "train":
            self._note_columns(train, scaled=scale is not None)
        self._note_filled(which, raw)

    def _scale(self, which: str, csv: CsvFile, train: ColumnSums) -> tuple[Floats, Floats]:
        """Return what is subtracted from each input column, and what it is divided by after that."""
        inputs = self._settings.inputs
        mean, std = train.mean[: len(inputs)], train.std[: len(inputs)]
        constant = train.constant[: len(inputs)]
        huge = [
            name for name, one in zip(inputs, np.isfinite(mean) & np.isfinite(std), strict=True) if not one
        ]
        if huge:
            raise UsageError(
                f"{csv.file}: column {huge[0]!r} has values that are too large to be standardized",
                "leave it out of data.args.input, or correct it",
            )
        if constant.any() and which == "train":
            names = [name for name, one in zip(inputs, constant, strict=True) if one]
            self._notes.append(f"columns with one value alone: {', '.join(names[:_MAX_NOTED])}")
        return np.where(constant, train.low[: len(inputs)], mean), np.where(constant, 1.0, std)

    def _refuse_overflow(
        self, csv: CsvFile, raw: RawColumns, fill: Floats | None, scale: tuple[Floats, Floats] | None
    ) -> None:
        """Refuse values that the type of the arrays cannot hold."""
        largest = np.maximum(_sums(raw).largest, 0.0 if fill is None else np.abs(fill))
        names = (*self._settings.inputs, *self._settings.targets)
        if scale is not None:
            inputs = len(self._settings.inputs)
            largest[:inputs] = (largest[:inputs] + np.abs(scale[0])) / scale[1]
        dtype = self._settings.dtype
        for name, value in zip(names, largest.tolist(), strict=False):
            if value > float(np.finfo(dtype).max):
                raise UsageError(
                    f"{csv.file}: column {name!r} has values up to {value:.3g}, which {dtype} cannot hold",
                    "set data.args.dtype=float64, or correct them",
                )

    def _targets(self, csv: CsvFile, target: TargetColumn) -> NDArray[Any]:
        if self._is_class:
            return self._class_indices(csv, target)
        if target.no_number is not None:
            row, found = target.no_number
            raise csv.bad_rows_error([(row, f"the target {found!r} is not a number")])
        values = np.concatenate(target.numbers)
        bad = np.flatnonzero(~(np.abs(values) <= float(np.finfo(self._settings.dtype).max))).tolist()
        if bad:
            what = f"the target is missing, or no number that {self._settings.dtype} can hold"
            raise csv.bad_rows_error([(row, what) for row in bad])
        self._note_rounded([target.name], [float(np.abs(values).max())])
        return values[:, None].astype(self._settings.dtype)

    def _class_indices(self, csv: CsvFile, target: TargetColumn) -> NDArray[np.int64]:
        index = {name: number for number, name in enumerate(self._names or ())}
        numbers = np.array([index.get(label, -1) for label in target.labels], np.int64)
        indices: NDArray[np.int64] = numbers[np.concatenate(target.codes)]
        unknown = np.flatnonzero(indices < 0).tolist()
        if unknown:
            labels = target.texts()
            raise csv.bad_rows_error([(row, _no_class(labels[row], index)) for row in unknown])
        return indices

    def _note_columns(self, train: ColumnSums, *, scaled: bool) -> None:
        inputs = self._settings.inputs
        for place in np.flatnonzero(train.counts[: len(inputs)] & (train.count[: len(inputs)] >= _COUNTED)):
            rest = ",".join(name for name in inputs if name != inputs[place])
            self._notes.append(
                f"column {inputs[place]!r} counts the rows, {train.low[place]:.0f} to {train.high[place]:.0f}, as an"
                " index does: of a file that is in an order it tells the target"
                + (f"; 'data.args.input=[{rest}]' leaves it out" if rest else "")
            )
        largest = train.largest.tolist()
        if not scaled:
            self._note_rounded(
                inputs, largest[: len(inputs)], ": data.args.standardize=true scales them before"
            )
        self._note_rounded(self._settings.targets, largest[len(inputs) :])

    def _note_rounded(self, names: Sequence[str], largest: Sequence[float], advice: str = "") -> None:
        """Note columns whose largest values the arrays' type does not tell from their neighbours."""
        exact, dtype = _EXACT[self._settings.dtype], self._settings.dtype
        large = [name for name, value in zip(names, largest, strict=False) if value > exact]
        if large:
            shown = ", ".join(large[:_MAX_NOTED])
            note = f"{dtype} rounds values beyond {exact:,}, as there are in {shown}{advice}"
            if note not in self._notes:
                self._notes.append(note)

    def _note_filled(self, which: str, raw: RawColumns) -> None:
        if raw.missing:
            counts = {name: raw.missing[name][0] for name in self._settings.inputs if name in raw.missing}
            listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            self._notes.append(f"missing values of {which} that were filled: {listed}")


def _refuse_quantities(csv: CsvFile, target: TargetColumn) -> None:
    """Refuse quantities that are not written as numbers, of which each would be a class of its own."""
    if found := target.quantity_in_texts():
        raise UsageError(
            f"{csv.file}: column {target.name!r} holds {found[0]} such as {found[1]!r}, which are not written as"
            " numbers",
            "write numbers alone, such as 1234.5; if they are names of classes, data.args.target_type=class",
        )


def _sums(raw: RawColumns) -> ColumnSums:
    if raw.sums is None:
        raise ValueError("nothing was read")
    return raw.sums


def _fill_values(fill: str | float, train: ColumnSums) -> Floats:
    return train.mean if fill == "mean" else np.full(train.mean.shape, float(fill))


def _no_class(label: str, index: dict[str, int]) -> str:
    return (
        f"{label!r} is none of the classes {', '.join(list(index)[:20])}" if label else "the label is empty"
    )

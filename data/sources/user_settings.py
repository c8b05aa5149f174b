"""What a user's ``data()`` may return besides its splits: how batches are made, and what is known of the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError

from ..cache import Array
from ..config import BATCH_SIZE, FoundSetting, PadConfig
from ..samples import contract_error

_COLUMNS = ("weights", "groups", "targets")
SETTINGS = ("collate", "pad", "batch_size", *_COLUMNS)
"""Keys of the dict that ``data()`` returns that name no split."""


@dataclass(frozen=True)
class UserSettings:
    """Settings that were returned; the config's own take their place."""

    collate: Callable[[list[Any]], Any] | None = None
    pad: PadConfig | None = None
    columns: dict[str, Array] = field(default_factory=dict)
    """``weights``, ``groups`` and ``targets``: one value for each training sample."""
    batch_size: int | None = None

    def found(self, use: str, *, collate: bool, pad: bool) -> tuple[FoundSetting, ...]:
        """Return the settings that are in force; of the batch size, the launcher knows whether the config has it.

        Args:
            use: what returned them.
            collate: whether the config names no function of its own.
            pad: whether it does not say how to pad.
        """
        why = f"{use} returns it"
        found = []
        if self.collate is not None and collate:
            found.append(FoundSetting("data.collate", _name(self.collate), why))
        if self.pad is not None and pad:
            found.append(FoundSetting("data.pad", self.pad.model_dump(mode="json"), why))
        if self.batch_size is not None:
            found.append(FoundSetting(BATCH_SIZE, self.batch_size, why))
        return tuple(found)


def read_settings(use: str, result: Mapping[str, Any]) -> UserSettings:
    """Check what was returned besides the splits.

    Raises:
        TrainingError: it is of another kind.
    """
    collate, pad = result.get("collate"), result.get("pad")
    if collate is not None and not callable(collate):
        raise contract_error(use, f"returned {type(collate).__name__} for 'collate', not a function")
    columns = {key: _column(use, key, result[key]) for key in _COLUMNS if result.get(key) is not None}
    size = result.get("batch_size")
    batch_size = None if size is None else _batch_size(use, size)
    return UserSettings(collate, None if pad is None else _pad(use, pad), columns, batch_size)


def _batch_size(use: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise contract_error(use, f"returned {value!r} for 'batch_size', not a number of samples")
    return int(value)


def _pad(use: str, value: Any) -> PadConfig:
    try:
        return PadConfig.model_validate({"to": value} if isinstance(value, int | str) else value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        what = f"returned {value!r} for 'pad'{', ' + where if where else ''}: {first['msg']}"
        raise contract_error(use, what) from error


def _column(use: str, key: str, value: Any) -> Array:
    try:
        column = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        what = f"returned {type(value).__name__} for {key!r}, not one value for each sample"
        raise contract_error(use, what) from error
    if column.ndim != 1 or (column.dtype.kind not in "biufUS" and not _is_text(column)):
        kind = f"{column.dtype} of shape {list(column.shape)}"
        raise contract_error(use, f"returned {kind} for {key!r}, not one value for each sample")
    return column.astype(str) if column.dtype.kind in "OS" else column


def _is_text(column: Array) -> bool:
    """Tell whether it is a column of texts, as pandas has it."""
    return column.dtype.kind == "O" and all(isinstance(value, str) for value in column.tolist())


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))

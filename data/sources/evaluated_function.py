"""A user's function that returns other data for a trained model: what ``launch eval --data`` names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..common import TrainingError, load_callable
from ..samples import as_tensors, run_user_code
from .user_dataset import EVALUATED
from .user_settings import SETTINGS

_KEPT = ("collate", "pad")
"""Settings that say how samples are read, and none of which samples are trained on."""


def evaluated_splits(use: str, folder: str) -> dict[str, Any]:
    """Call a function; return its splits, the first of them in the place of a training set as well.

    Args:
        use: ``package.module:function`` or ``./file.py:function``.
        folder: that a relative path starts from.

    Raises:
        UsageError: there is no such function.
        TrainingError: it raised, or returned nothing to evaluate, or what is neither a split nor a setting.
    """
    result = run_user_code(use, partial(load_callable(use, Path(folder))))
    found = dict(result) if isinstance(result, Mapping) else {"val": result}
    unknown = [key for key in found if key not in ("train", *SETTINGS) and not EVALUATED.fullmatch(str(key))]
    if unknown:
        raise TrainingError(
            f"{use} returned the unknown key {unknown[0]!r}",
            f"splits are val, val_… and test…, settings are {', '.join(SETTINGS)}",
        )
    splits = {
        key: as_tensors(use, key, split)
        for key, split in found.items()
        if split is not None and EVALUATED.fullmatch(str(key))
    }
    if not splits:
        given = ", ".join(map(repr, found)) or "an empty dict"
        raise TrainingError(
            f"{use} returned {given}, and nothing to evaluate",
            'return a data set, a pair (inputs, targets), or {"val": …}',
        )
    settings = {key: found[key] for key in _KEPT if found.get(key) is not None}
    return {"train": next(iter(splits.values())), **splits, **settings}

"""A user's own data: ``data(**args) -> {"train": ds, "val": ds}``, called once per process and checked."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common import DamagedError, LockstepError, TrainingError, load_callable, raised, user_location
from ..config import DataConfig, DatasetInfo, SplitInfo
from .array_cache import Array, class_counts, fingerprint
from .source import DataSource, PreparedSplit, Reader
from .splits import ArraySplit, MapSplit

if TYPE_CHECKING:
    import torch

_CONTRACT = (
    'return {"train": ..., "val": ...}: map-style data sets, or pairs of tensors (x, y); val may be left out'
)


@dataclass(frozen=True)
class TensorSplit:
    """A split that is held whole: x [n, ...] and y [n, ...], on the CPU."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.x)


_SAMPLED_ROWS = 8  # samples beside the first and the last: reading one may be slow
_MAX_HASHED_BYTES = 2**28  # 0.2 s; of larger tensors the ends stand for the whole
Splits = Mapping[str, Any]
"""``train`` and perhaps ``val``: ``TensorSplit`` or a map-style data set."""

_called: dict[str, Splits] = {}


def load_user_dataset(config: DataConfig, base: Path) -> Splits:
    """Call the user's callable and check what it returns; a process calls it once.

    Raises:
        UsageError: there is no such callable.
        TrainingError: it raised, or broke the contract.
    """
    key = json.dumps([config.use, config.args, str(base)], sort_keys=True, default=repr)
    if key not in _called:
        function = load_callable(config.use, base)
        result = _run_user_code(config.use, partial(function, **config.args))
        _called[key] = {
            name: _checked_split(config.use, name, split)
            for name, split in _checked_items(config.use, result)
        }
    return _called[key]


def describe(arguments: dict[str, Any], config: DataConfig, base: Path) -> DatasetInfo:  # noqa: ARG001 - DataSource
    """Describe a user's data; shapes and classes as far as the first sample shows them."""
    splits = load_user_dataset(config, base)
    train = splits["train"]
    x, y = _run_user_code(config.use, partial(_first_sample, train))
    classes = _classes(splits)
    return DatasetInfo(
        name=config.use,
        kind="user",
        train=_split_info(config.use, train, classes),
        val=_split_info(config.use, splits["val"], classes) if "val" in splits else None,
        input_shape=_shape(x),
        input_dtype=_dtype(x),
        classes=classes,
        class_names=None,
        target_shape=_shape(y),
        mean=None,
        std=None,
        scale_uint8=bool(config.scale_uint8),
        fingerprint=fingerprint(
            config.use, {name: _split_digest(config.use, split) for name, split in splits.items()}
        ),
    )


def _open(split: PreparedSplit) -> ArraySplit | MapSplit:
    """Call the user's callable in this process.

    Raises:
        DamagedError: it returned something else than before.
    """
    config, facts, info = split.config, split.facts, split.info
    split_off = split.subset is not None
    rows = facts.train.length + (facts.val.length if facts.val else 0) if split_off else info.length
    data = _rows_of(split)
    if len(data) != rows:
        raise DamagedError(
            f"{config.use} returned {len(data)} samples where it had returned {rows} before",
            "its length must be the same on every call: give it a seed, or a fixed list",
        )
    if content_hash(config.use, data) != info.contents:
        raise DamagedError(
            f"{config.use} returned other data in this process than before the ranks started",
            "make it the same on every call: seed its generators, sort what comes out of sets and folders",
        )
    if isinstance(data, TensorSplit):
        return ArraySplit(data.x, data.y, split.subset)
    return MapSplit(data, split.subset)


def _rows_of(split: PreparedSplit) -> Any:
    """Return what holds the rows of a split: a split-off validation set lies in the user's ``train``."""
    return load_user_dataset(split.config, split.base)["train" if split.subset is not None else split.which]


def _read(split: PreparedSplit) -> Reader:
    data = _rows_of(split)

    def read(row: int) -> Any:
        with _fixed_randomness():
            return (data.x[row], data.y[row]) if isinstance(data, TensorSplit) else data[row]

    return len(data), read


def _targets(facts: DatasetInfo, config: DataConfig, base: Path) -> Array:  # noqa: ARG001 - DataSource
    return np.asarray(load_user_dataset(config, base)["train"].y)


SOURCE = DataSource("package.module:callable", None, describe, _open, _read, _targets)


def _run_user_code(use: str, work: partial[Any]) -> Any:
    try:
        return work()
    except (LockstepError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a SystemExit of the user's would end the rank without a word
        raise raised(f"{use} raised", error) from error


def _contract_error(use: str, what: str) -> TrainingError:
    return TrainingError(f"{use} {what}", _CONTRACT)


def _checked_items(use: str, result: Any) -> list[tuple[str, Any]]:
    if not isinstance(result, Mapping):
        raise _contract_error(use, f"returned {type(result).__name__}, not a dict")
    unknown = [key for key in result if key not in ("train", "val")]
    if unknown:
        raise _contract_error(use, f"returned the unknown key {unknown[0]!r}")
    if result.get("train") is None:
        raise _contract_error(use, 'returned nothing for "train"')
    return [(name, split) for name, split in result.items() if split is not None]


def _checked_split(use: str, name: str, split: Any) -> Any:
    split = _as_tensors(use, name, split)
    if not isinstance(split, TensorSplit) and not (
        hasattr(split, "__len__") and hasattr(split, "__getitem__")
    ):
        raise _contract_error(
            use, f"returned {type(split).__name__} for {name!r}, which has no __len__ or no __getitem__"
        )
    if _run_user_code(use, partial(len, split)) == 0:
        raise _contract_error(use, f"returned no samples for {name!r}")
    return split


def _as_tensors(use: str, name: str, split: Any) -> Any:
    import torch
    from torch.utils.data import TensorDataset

    pair = split.tensors if type(split) is TensorDataset else split
    if not isinstance(pair, list | tuple) or not any(isinstance(p, torch.Tensor | np.ndarray) for p in pair):
        return split
    if len(pair) != 2 or not all(isinstance(part, torch.Tensor) and part.ndim for part in pair):  # noqa: PLR2004
        kinds = ", ".join(type(part).__name__ for part in pair[:3])
        raise _contract_error(
            use, f"returned ({kinds}) for {name!r}, not a pair of tensors with a row for each sample"
        )
    x, y = (part.detach().cpu() for part in pair)
    if len(x) != len(y):
        raise _contract_error(use, f"returned {len(x)} inputs and {len(y)} targets for {name!r}")
    return TensorSplit(x, y)


def _first_sample(split: Any) -> tuple[Any, Any]:
    """Return the first input and target, or None for each where a sample is no pair."""
    if isinstance(split, TensorSplit):
        return split.x[0], split.y[0]
    with _fixed_randomness():
        sample = split[0]
    pair = isinstance(sample, list | tuple) and len(sample) == 2  # noqa: PLR2004 - input and target
    return (sample[0], sample[1]) if pair else (None, None)


def _shape(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, int | float):
        return ()
    shape = getattr(value, "shape", None)
    return None if shape is None else tuple(int(size) for size in shape)


def _dtype(value: Any) -> str | None:
    found = getattr(value, "dtype", None)
    return None if found is None else str(found).removeprefix("torch.")


def _classes(splits: Splits) -> int | None:
    """Count the classes as one more than the largest target, where all targets are known whole numbers from 0 on."""
    largest = -1
    for split in splits.values():
        if not isinstance(split, TensorSplit) or split.y.ndim != 1 or split.y.is_floating_point():
            return None
        if split.y.is_complex() or int(split.y.min()) < 0:
            return None
        largest = max(largest, int(split.y.max()))
    return largest + 1


def _split_info(use: str, split: Any, classes: int | None) -> SplitInfo:
    counts = class_counts(split.y.numpy(), classes) if isinstance(split, TensorSplit) else None
    return SplitInfo(len(split), {}, contents=content_hash(use, split), class_counts=counts)


def content_hash(use: str, split: Any) -> str:
    """Hash a split: the same in every process that calls the same callable with the same arguments."""
    return fingerprint(_split_digest(use, split))


def _split_digest(use: str, split: Any) -> list[Any]:
    """Hash tensors as a whole, else the first, the last and some samples between them; the length goes with it.

    They count unless a second look at them differs.
    """
    if isinstance(split, TensorSplit) and split.x.nbytes + split.y.nbytes <= _MAX_HASHED_BYTES:
        return [len(split), _sample_hash(TensorSplit(split.x[None], split.y[None]), 0)]
    ends = (0, len(split) - 1)
    between = sorted(random.Random(len(split)).sample(range(len(split)), min(_SAMPLED_ROWS, len(split))))  # noqa: S311
    looks = [
        [
            *(_boundary_sample_hash(use, split, row) for row in ends),
            *(_inner_sample_hash(split, row) for row in between),
        ]
        for _ in range(2)
    ]
    return [len(split), looks[0] if looks[0] == looks[1] else None]


def _inner_sample_hash(split: Any, row: int) -> str:
    """Hash a sample; one that cannot be read is named when it is trained on, with its number."""
    try:
        return _sample_hash(split, row)
    except (Exception, SystemExit):  # noqa: BLE001 - the user's
        return ""


def _boundary_sample_hash(use: str, split: Any, row: int) -> str:
    """Hash the first or the last sample.

    Raises:
        TrainingError: it cannot be read; where that is the last alone, the length is to blame.
    """
    try:
        return _sample_hash(split, row)
    except (IndexError, KeyError) as error:
        if row == 0:
            raise raised(f"{use} raised", error) from error
        what = f"{type(error).__name__}: {error}"
        raise TrainingError(
            f"{use} says that it has {len(split):,} samples, but the last of them raises {what}\n"
            f"at {user_location(error)}",
            "make __len__ tell the truth",
        ) from error
    except (LockstepError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a SystemExit of the user's would end the rank without a word
        raise raised(f"{use} raised", error) from error


def _sample_hash(split: Any, row: int) -> str:
    with _fixed_randomness():
        sample = [split.x[row], split.y[row]] if isinstance(split, TensorSplit) else split[row]
    digest = hashlib.sha256()
    for part in _sample_bytes(sample):
        digest.update(part)
    return digest.hexdigest()


def _sample_bytes(value: Any) -> Iterator[bytes]:
    """Yield bytes that stand for a sample; a value without bytes of its own is represented by its type."""
    import torch

    if isinstance(value, Mapping):
        value = [item for key in sorted(value, key=str) for item in (key, value[key])]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _sample_bytes(item)
    elif isinstance(value, torch.Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, int | float | str | bytes | np.generic | None):
        yield repr(value).encode()
    elif hasattr(value, "tobytes"):  # NumPy arrays and Pillow images
        yield value.tobytes()
    else:
        yield type(value).__qualname__.encode()


@contextmanager
def _fixed_randomness() -> Iterator[None]:
    """Fix all generators, so that an augmented sample is the same on each look; they are restored afterwards."""
    import torch

    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - what user code may draw from
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002

"""What a user's data are, as a hash: every process that calls the same callable must get the same."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..common import LockstepError, TrainingError, raised, user_location
from .arrays import as_bytes
from .tensor_split import TensorSplit

_SAMPLED_ROWS = 8  # samples besides the first and the last: reading one may be slow
_MAX_HASHED_BYTES = 2**28  # 0.2 s; of larger tensors the ends stand for the whole


def run_user_code(use: str, work: partial[Any]) -> Any:
    """Run what calls the user's code.

    Raises:
        TrainingError: it raised.
    """
    try:
        return work()
    except (LockstepError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a SystemExit of the user's would end the rank without a word
        raise raised(f"{use} raised", error) from error


@dataclass(frozen=True)
class SplitDigest:
    """The contents of a split, as far as they were looked at."""

    contents: list[Any]
    """Of JSON's types: equal where a split is."""
    changing: int | None = None
    """The number of a sample that was another one when it was read again."""

    def notes(self, name: str, where: str) -> list[str]:
        """Say of samples made at ``where`` that they are others when they are read again, if they are."""
        if self.changing is None:
            return []
        what = (
            f"samples of {name} are others when they are read again, such as sample {self.changing:,}: they depend on"
            " what was read before, or draw from a generator of their own, as default_rng(), or from the time; no run"
            " and no evaluation can be repeated; torch.rand, np.random.rand and random.random are keyed by (seed,"
            f" epoch, sample){f'; see {where}' if where else ''}"
        )
        return [f"warning: {what}"]


def split_digest(use: str, split: Any, *, skip: bool = False) -> SplitDigest:
    """Hash tensors as a whole, else the first, the last and some samples between them; the length goes with it.

    They are read twice, the second time in the opposite order: what a sample is must not depend on what was read
    before. They count unless one of them does.

    Args:
        use: what returned it.
        split: what it returned.
        skip: the ends may be bad, as other samples may.
    """
    if isinstance(split, TensorSplit) and split.x.nbytes + split.y.nbytes <= _MAX_HASHED_BYTES:
        return SplitDigest([len(split), _sample_hash(TensorSplit(split.x[None], split.y[None]), 0)])
    ends = (0, len(split) - 1)
    rows = [*ends, *_rows_between(len(split))]

    def look(row: int) -> str:
        inner = skip or row not in ends
        return _inner_sample_hash(split, row) if inner else _boundary_sample_hash(use, split, row)

    one = [look(row) for row in rows]
    other = [look(row) for row in reversed(rows)][::-1]
    changing = next((row for row, *two in zip(rows, one, other, strict=True) if two[0] != two[1]), None)
    return SplitDigest([len(split), one if changing is None else None], changing)


def refuse_changing_samples(use: str, split: Any, where: str) -> None:
    """Read the first sample, then others, and see whether it is still the same.

    A batch of samples that share one tensor has only the last of them, and a sample that is changed in place is another
    one in the next epoch: both train without an error.

    Args:
        use: names the data set.
        split: of samples that are read one by one.
        where: samples are made, for the message.

    Raises:
        TrainingError: it is not.
    """
    changed_by = _changed_by(split)
    if changed_by is not None:
        again = "it was read again" if changed_by == 0 else f"sample {changed_by:,} was read"
        raise TrainingError(
            f"{use}: sample 0 became another one when {again}{f' ({where})' if where else ''}",
            "return a tensor of its own for each sample, for example a clone(), and change none in place",
        )


def _changed_by(split: Any) -> int | None:
    """Return the row whose reading changes the sample that was read first; what cannot be read is named elsewhere."""
    with fixed_randomness(), suppress(Exception, SystemExit):
        first = split[0]
        before = list(_sample_bytes(first))
        for row in (len(split) - 1, 0):
            split[row]
            if list(_sample_bytes(first)) != before:
                return row
    return None


def _rows_between(length: int) -> list[int]:
    """Choose the rows that are looked at besides the first and the last."""
    return sorted(random.Random(length).sample(range(length), min(_SAMPLED_ROWS, length)))  # noqa: S311


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
        return str(run_user_code(use, partial(_sample_hash, split, row)))
    except TrainingError as error:
        cause = error.__cause__
        if row == 0 or not isinstance(cause, IndexError | KeyError):
            raise
        raise TrainingError(
            f"{use} says that it has {len(split):,} samples, but the last of them raises"
            f" {type(cause).__name__}: {cause}\nat {user_location(cause)}",
            "make __len__ tell the truth",
        ) from cause


def sample_hashes(use: str, split: Any, rows: list[int]) -> list[str]:
    """Hash samples, read in this order."""
    return [run_user_code(use, partial(_sample_hash, split, row)) for row in rows]


def _sample_hash(split: Any, row: int) -> str:
    with fixed_randomness():
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
    elif isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type != "meta":
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield as_bytes(value.cpu()).numpy().tobytes()
    elif isinstance(value, int | float | str | bytes | np.generic | None):
        yield repr(value).encode()
    elif hasattr(value, "tobytes"):  # NumPy arrays and Pillow images
        yield value.tobytes()
    else:
        yield type(value).__qualname__.encode()


@contextmanager
def fixed_randomness() -> Iterator[None]:
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

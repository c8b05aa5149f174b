"""From positions to batches on the device: one gather where the data is resident, a DataLoader where it is not."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from math import gcd
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from .augment import Augmentation
from .blame import place_of
from .errors import DamagedError, LockstepError, TrainingError, error_from_json
from .facts import DataFacts
from .order import Indices
from .randomness import mix, seed_all
from .signals import shelter_worker, sheltered
from .splits import ArraySplit, MapSplit
from .work import Feed, Fetched, Work

_BLOCK_BYTES = 2 * 2**20  # one gather serves this much of several steps: 19 to 30 µs per batch of 32, not 40
_LINE = 64  # bytes; torch allocates on such boundaries
_RESIDENT_SHARE = 0.25  # of the free device memory
_Row = TypeVar("_Row", np.int64, np.uint64)


@dataclass(frozen=True)
class Normalise:
    """Stored values to model inputs: uint8 to 0..1, then mean and standard deviation per channel."""

    dtype: torch.dtype
    mean: torch.Tensor | None
    std: torch.Tensor | None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` [B, ...] as the model's type; integer types other than uint8 are left as they are."""
        if x.dtype == torch.uint8:
            x = x.to(self.dtype).div_(255)
        elif x.is_floating_point():
            x = x.to(self.dtype)
        if self.mean is not None:
            x = x - self.mean
        return x if self.std is None else x / self.std


def normalise_for(facts: DataFacts, dtype: torch.dtype, device: torch.device) -> Normalise:
    """The normalisation that a data set asks for."""

    def channels(values: tuple[float, ...] | None) -> torch.Tensor | None:
        return None if values is None else torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1)

    return Normalise(dtype, channels(facts.mean), channels(facts.std))


def open_feed(
    split: ArraySplit | MapSplit,
    normalise: Normalise,
    device: torch.device,
    *,
    workers: int,
    classes: int | None,
    seed: int,
    ahead: bool = False,
    augment: Augmentation | None = None,
) -> Feed:
    """The feed for a split: resident for arrays, a DataLoader for what is read sample by sample.

    Args:
        split: what was opened.
        normalise: applied on the device.
        device: where batches are wanted.
        workers: loader processes for a ``MapSplit``.
        classes: where targets are class indices, each is checked to be below this.
        seed: of what is random about a sample, with the epoch and its index.
        ahead: a core is free to gather arrays while the model trains.
        augment: applied on the device, before ``normalise``.
    """
    if isinstance(split, ArraySplit):
        return ResidentFeed(split, normalise, device, classes=classes, ahead=ahead, augment=augment)
    return LoaderFeed(split, normalise, device, workers=workers, classes=classes, seed=seed, augment=augment)


class ResidentFeed:
    """Arrays held whole: a batch is a slice of one gather that serves several steps.

    Args:
        split: the arrays.
        normalise: applied on the device.
        device: where batches are wanted.
        classes: as in ``open_feed``.
        ahead: gather on a thread of its own; worth it where a core is free.
        augment: as in ``open_feed``.
    """

    def __init__(
        self,
        split: ArraySplit,
        normalise: Normalise,
        device: torch.device,
        *,
        classes: int | None,
        ahead: bool = False,
        augment: Augmentation | None = None,
    ) -> None:
        self._targets = split.y
        self._x, self._y = _resident(split.x, device), _resident(split.y, device)
        self._subset = split.subset
        self._normalise = normalise
        self._device = device
        self._augment = augment
        self._ahead = device.type == "cpu" and ahead
        width = split.x[0].numel() * max(4, split.x.element_size())
        self._rows = max(1, _BLOCK_BYTES // max(1, width))
        self._alignment = max(
            _rows_per_line(split.x[0], normalise.dtype), _rows_per_line(split.y[0], split.y.dtype)
        )
        if classes is not None:
            self.expect_classes(classes)

    def expect_classes(self, classes: int) -> None:
        """Check every target, once."""
        _check_targets(self._targets, classes, lambda row: f"row {row}")

    def fetch(self, work: Iterator[Work]) -> Iterator[Fetched]:
        """The batches of ``work``, one for each item."""
        mapped = _one_ahead if self._ahead else map
        for block in mapped(self._gather, self._blocks(work)):
            yield from block

    def _blocks(self, work: Iterator[Work]) -> Iterator[list[Work]]:
        """Steps that are gathered together: as many as fit, at least one."""
        block: list[Work] = []
        rows = 0
        for item in work:
            if block and rows + item.indices.size > self._rows:
                yield block
                block, rows = [], 0
            block.append(item)
            rows += item.indices.size
        if block:
            yield block

    def _gather(self, block: list[Work]) -> list[Fetched]:
        indices = block[0].indices if len(block) == 1 else np.concatenate([item.indices for item in block])
        rows = indices if self._subset is None else self._subset[indices]
        sizes = [size for item in block for size in item.micro]
        rows, cuts = _aligned(rows, sizes, self._alignment)
        chosen = torch.from_numpy(rows)
        x, y = (self._select(source, chosen) for source in (self._x, self._y))
        if self._augment is not None:
            draws = _draws(self._augment, block)
            x = self._augment.apply(x, _aligned(draws, sizes, self._alignment)[0])
        parts = list(zip(self._normalise(x).split(cuts)[::2], y.split(cuts)[::2], strict=True))
        fetched = []
        taken = row = 0
        for item in block:
            micro = parts[taken : taken + len(item.micro)]
            fetched.append(Fetched(micro, indices[row : row + item.indices.size], item))
            taken += len(item.micro)
            row += item.indices.size
        return fetched

    def _select(self, source: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        if source.device == self._device:
            return source.index_select(0, rows.to(self._device, non_blocking=True))
        return source.index_select(0, rows).to(self._device, non_blocking=True)


def _rows_per_line(row: torch.Tensor, dtype: torch.dtype) -> int:
    """Rows after which a batch begins on a cache line again."""
    itemsize = dtype.itemsize if row.is_floating_point() or row.dtype == torch.uint8 else row.element_size()
    return _LINE // gcd(_LINE, max(1, row.numel()) * itemsize)


def _draws(augment: Augmentation, block: list[Work]) -> NDArray[np.uint64]:
    """In one piece per epoch, which costs a tenth of one per step."""
    epochs = groupby(block, lambda item: item.epoch)
    return np.concatenate(
        [augment.draw(epoch, np.concatenate([item.indices for item in items])) for epoch, items in epochs]
    )


def _aligned(rows: NDArray[_Row], sizes: list[int], alignment: int) -> tuple[NDArray[_Row], list[int]]:
    """``rows`` with fillers, so that every micro-batch of ``sizes`` begins on a cache line.

    A matrix product's last bits depend on where its operands lie in memory. Where a batch lies among those that
    are gathered with it depends on the step that a run was resumed at.

    Returns:
        The rows, and the lengths to cut them into: a micro-batch and its fillers in turn.
    """
    fillers: list[int] = [-size % alignment for size in sizes]
    cuts = [length for pair in zip(sizes, fillers, strict=True) for length in pair]
    if not any(fillers):
        return rows, cuts
    padded = np.full(sum(cuts), rows[0])
    shifts = np.cumsum([0, *fillers[:-1]])
    padded[np.arange(rows.size) + np.repeat(shifts, sizes)] = rows
    return padded, cuts


def _one_ahead(
    gather: Callable[[list[Work]], list[Fetched]], blocks: Iterator[list[Work]]
) -> Iterator[list[Fetched]]:
    """``map(gather, blocks)`` with the next block being gathered on a thread while this one is trained on."""
    with ThreadPoolExecutor(1, thread_name_prefix="gather") as pool:
        following: Future[list[Fetched]] | None = None
        for block in blocks:
            ready, following = following, pool.submit(gather, block)
            if ready is not None:
                yield ready.result()
        if following is not None:
            yield following.result()


def _resident(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device where it leaves room for the model, else in host memory."""
    if device.type != "cuda":
        return values
    free, _ = torch.cuda.mem_get_info(device)
    return values.to(device) if values.nbytes <= _RESIDENT_SHARE * free else values


class _Keyed(Dataset[Any]):
    """A data set whose randomness is keyed by (seed, epoch, index), and that tells what it really fetched."""

    def __init__(self, split: MapSplit, seed: int) -> None:
        self._dataset = split.dataset
        self._subset = split.subset
        self._seed = seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, Any]:
        epoch, index = key
        seed_all(mix(self._seed, epoch, index))
        row = index if self._subset is None else int(self._subset[index])
        try:
            return index, self._dataset[row]
        except LockstepError as error:
            return index, _Failure(error)
        except Exception as error:  # noqa: BLE001 - torch would wrap it, traceback and all, into a message
            what = f"sample {row} of the data set raised {type(error).__name__}: {error}"
            return index, _Failure(
                TrainingError(f"{what}\nat {place_of(error)}", "correct the code at that line")
            )


@dataclass(frozen=True)
class _Failure:
    """An error on its way from a loader's process to the rank."""

    error: LockstepError

    def __reduce__(self) -> tuple[Any, ...]:
        return _failure_from_json, (self.error.to_json(),)


def _failure_from_json(document: dict[str, Any]) -> _Failure:
    return _Failure(error_from_json(document))


class _Micro(Sampler[list[tuple[int, int]]]):
    """(epoch, index) lists of micro-batches, read by the loader from whatever work was set last."""

    def __init__(self) -> None:
        self.queue: Iterator[list[tuple[int, int]]] = iter(())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.queue


def _collate(samples: list[tuple[int, Any]]) -> tuple[Indices, Any]:
    for index, value in samples:
        if isinstance(value, _Failure):
            return np.array([index], np.int64), value
    return np.array([index for index, _ in samples], np.int64), default_collate(
        [value for _, value in samples]
    )


class LoaderFeed:
    """Samples read one by one, through torch's DataLoader; its workers live as long as the feed."""

    def __init__(
        self,
        split: MapSplit,
        normalise: Normalise,
        device: torch.device,
        *,
        workers: int,
        classes: int | None,
        seed: int,
        augment: Augmentation | None = None,
    ) -> None:
        self._sampler = _Micro()
        self._normalise = normalise
        self._augment = augment
        self._device = device
        self._classes = classes
        self._subset = split.subset
        with warnings.catch_warnings():
            # The number of workers is a setting; that it exceeds the cores is for the plan to say, not for torch.
            warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
            self._loader: DataLoader[Any] = DataLoader(
                _Keyed(split, seed),
                batch_sampler=self._sampler,
                num_workers=workers,
                collate_fn=_collate,
                pin_memory=device.type == "cuda",
                persistent_workers=workers > 0,
                multiprocessing_context="fork" if workers else None,
                worker_init_fn=shelter_worker,
                generator=torch.Generator(),  # its own: a draw from the global one shifts the model's randomness
            )

    def fetch(self, work: Iterator[Work]) -> Iterator[Fetched]:
        """The batches of ``work``, one for each item."""
        asked: deque[Work] = deque()

        def queue() -> Iterator[list[tuple[int, int]]]:
            for item in work:
                asked.append(item)
                for part in np.split(item.indices, np.cumsum(item.micro)[:-1]):
                    yield [(item.epoch, index) for index in part.tolist()]

        self._sampler.queue = queue()
        loaded: list[tuple[Indices, tuple[Any, Any]]] = []
        with sheltered():
            batches = iter(self._loader)
        for indices, sample in batches:
            if isinstance(sample, _Failure):
                raise sample.error
            loaded.append((indices, self._to_device(indices, sample, asked[0].epoch)))
            if len(loaded) == len(asked[0].micro):
                read = np.concatenate([part for part, _ in loaded])
                yield Fetched([pair for _, pair in loaded], read, asked.popleft())
                loaded = []

    def expect_classes(self, classes: int) -> None:
        """Check every target when it is read."""
        self._classes = classes

    def _to_device(self, indices: Indices, sample: Any, epoch: int) -> tuple[Any, Any]:
        if not isinstance(sample, list | tuple) or len(sample) != 2:  # noqa: PLR2004 - input and target
            raise TrainingError(
                f"a sample of the data set is a {type(sample).__name__}, not a pair (input, target)",
                "return (input, target) from __getitem__",
            )
        x, y = sample
        if isinstance(y, torch.Tensor):
            _check_targets(y, self._classes, lambda row: f"sample {self._row(indices[row])}")
        x, y = tree_map(self._move, (x, y))
        if self._augment is not None:
            x = self._augment(x, epoch, indices)
        return tree_map(
            lambda value: self._normalise(value) if isinstance(value, torch.Tensor) else value, x
        ), y

    def _row(self, index: Any) -> int:
        """The data set's own number of a sample of the split."""
        return int(index if self._subset is None else self._subset[index])

    def _move(self, value: Any) -> Any:
        return value.to(self._device, non_blocking=True) if isinstance(value, torch.Tensor) else value


def _check_targets(targets: torch.Tensor, classes: int | None, name: Any) -> None:
    if classes is None or targets.is_floating_point() or not targets.numel():
        return
    bad = (targets < 0) | (targets >= classes)
    if bool(bad.any()):
        place = tuple(bad.nonzero()[0].tolist())
        row, label = (place or (0,))[0], int(targets[place])
        raise DamagedError(
            f"{name(row)} has the label {label}; with {classes} classes a label is 0 to {classes - 1}",
            "correct the labels, or give the model as many outputs as there are classes",
        )

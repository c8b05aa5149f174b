"""MixUp and CutMix: each sample of a global batch with a part of the one before it, and targets in the same shares.

The order of an epoch is drawn anew each time, so the neighbour in the batch is as good as any other partner; the first
sample's is the last one. A rank therefore needs one sample of its neighbour, and what a sample becomes does not depend
on how many ranks there are. Its share and its box are drawn by its own (seed, epoch, sample).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..common import TrainingError
from ..config import AugmentStep
from ..order import Indices
from .augment_draws import Draws
from .feed import Augment, Feed, StepBatch, Work

_PLACE = 2**20  # among the steps, after all others
_ATTEMPTS = 24  # each is accepted with more than 0.95
_IMAGES, _PAIR = 4, 2


@dataclass(frozen=True)
class Mixing:
    """The last steps of ``data.augment``: an image is changed by the first that chooses it.

    Args:
        steps: ``mixup`` and ``cutmix``, in the order of the config.
        known_classes: of the data set; None: unknown, or targets are not classes.
    """

    steps: tuple[AugmentStep, ...]
    known_classes: int | None

    @property
    def classes(self) -> int | None:
        """How many classes a target is spread over; None where nobody says."""
        return max(int(step.settings["classes"]) for step in self.steps) or self.known_classes

    def apply(self, x: Any, y: Any, numbers: NDArray[np.uint64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix samples.

        Args:
            x: images [1 + B, C, H, W], each behind its partner.
            y: targets [1 + B, ...]: classes, or what can be averaged.
            numbers: what decides about each, uint64 [B].

        Raises:
            TrainingError: these are not images, or their targets cannot be mixed.
        """
        self._refuse(x, y)
        draws = Draws(numbers, _PLACE)
        share, boxes = self._drawn(draws, x.shape[2:])
        own = torch.from_numpy(share).to(x.device, x.dtype, non_blocking=True)
        mixed = self._mixed(x, own, boxes)
        if boxes is not None:
            inside = (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
            share = np.where(inside > 0, 1 - inside / (x.shape[2] * x.shape[3]), share)
            own = torch.from_numpy(share).to(x.device, x.dtype, non_blocking=True)
        soft = self._soft(y, x.dtype)
        weight = own.to(soft.dtype).view(-1, *[1] * (soft.ndim - 1))
        return mixed, weight * soft[1:] + (1 - weight) * soft[:-1]

    def _drawn(
        self, draws: Draws, size: Sequence[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
        """Draw what is left of each image by mixup, 1 where nothing is mixed, and the boxes that cutmix fills."""
        share = np.ones(len(draws))
        boxes = np.zeros((4, len(draws)), np.int64)
        free = np.ones(len(draws), np.bool_)
        for place, step in enumerate(self.steps):
            at = draws.within(place)
            rows = np.flatnonzero(free & (at.uniform(0) < step.settings["p"]))
            free[rows] = False
            left = beta(at.of(rows).within(1), step.settings["alpha"])
            if step.use == "mixup":
                share[rows] = left
            else:
                boxes[:, rows] = _boxes(at.of(rows).within(2), left, size)
        return share, boxes if any(step.use == "cutmix" for step in self.steps) else None

    def _mixed(self, x: torch.Tensor, own: torch.Tensor, boxes: NDArray[np.int64] | None) -> torch.Tensor:
        image, partner = x[1:], x[:-1]
        mixed = image
        if any(step.use == "mixup" for step in self.steps):
            weight = own.view(-1, 1, 1, 1)
            mixed = weight * image + (1 - weight) * partner
        if boxes is None:
            return mixed
        top, left, bottom, right = (
            torch.from_numpy(boxes).to(x.device, non_blocking=True).view(4, -1, 1, 1, 1)
        )
        line = torch.arange(x.shape[2], device=x.device).view(-1, 1)
        row = torch.arange(x.shape[3], device=x.device)
        inside = (line >= top) & (line < bottom) & (row >= left) & (row < right)
        return torch.where(inside, partner, mixed)

    def _soft(self, y: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
        """Make the probabilities of classes of their indices; what are fractions already stays."""
        if y.is_floating_point():
            return y
        classes = self.classes
        if y.ndim != 1 or classes is None:
            raise TrainingError(
                f"data.augment: {self.steps[0].use}: the targets are {str(y.dtype).removeprefix('torch.')} of shape"
                f" {list(y.shape[1:])}, and nobody says how many classes there are",
                f"say it, {{use: {self.steps[0].use}, classes: 10}}, or return fractions as targets",
            )
        return (y[:, None] == torch.arange(classes, device=y.device)).to(kind)

    def _refuse(self, x: Any, y: Any) -> None:
        if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor) or x.ndim != _IMAGES:
            raise TrainingError(
                f"data.augment: {self.steps[0].use} is for pairs of images and targets, one tensor each",
                "return (image, target) from __getitem__, or leave it out",
            )
        if not x.is_floating_point():
            raise TrainingError(
                f"data.augment: {self.steps[0].use}: the inputs are {str(x.dtype).removeprefix('torch.')}, of which"
                " there is no part",
                "set data.scale_uint8=true, or return fractions",
            )


def beta(draws: Draws, alpha: float) -> NDArray[np.float64]:
    """Draw from Beta(alpha, alpha), each by its own number: ``math``, which no batch vectorises."""
    one, other = (_log_gammas(draws.within(which), alpha) for which in (0, 1))
    return np.array([1 / (1 + math.exp(min(b - a, 700.0))) for a, b in zip(one, other, strict=True)])


def _log_gammas(draws: Draws, alpha: float) -> list[float]:
    """Draw the logarithms of Gamma(alpha) (Marsaglia and Tsang, "A simple method for generating gamma variables").

    A shape below 1 is drawn as one that is greater by 1, times u^(1 / alpha).
    """
    shape = alpha + 1 if alpha < 1 else alpha
    found = [math.log(shape)] * len(draws)
    rest = np.arange(len(draws))
    for attempt in range(_ATTEMPTS):
        at = draws.of(rest).within(attempt)
        drawn = zip(*(at.uniform(what).tolist() for what in range(3)), strict=True)
        accepted = [_gamma(u, angle, v, shape) for u, angle, v in drawn]
        for row, value in zip(rest.tolist(), accepted, strict=True):
            found[row] = found[row] if value is None else math.log(value)
        rest = rest[[value is None for value in accepted]]
        if not rest.size:
            break
    if alpha >= 1:
        return found
    return [
        value + math.log(1 - boost) / alpha
        for value, boost in zip(found, draws.uniform(0).tolist(), strict=True)
    ]


def _gamma(u: float, angle: float, v: float, shape: float) -> float | None:
    """Make one attempt; None where it is rejected."""
    d = shape - 1 / 3
    normal = math.sqrt(-2 * math.log(1 - u)) * math.cos(2 * math.pi * angle)
    cube = (1 + normal / math.sqrt(9 * d)) ** 3
    if cube > 0 and math.log(1 - v) < normal * normal / 2 + d - d * cube + d * math.log(cube):
        return d * cube
    return None


def _boxes(draws: Draws, left: NDArray[np.float64], size: Sequence[int]) -> NDArray[np.int64]:
    """Place boxes of the share 1 - ``left`` anywhere, cut off at the edges: int64 [top, left, bottom, right]."""
    half = 0.5 * np.sqrt(1 - left)
    edges = []
    for axis, length in enumerate(size):
        middle, reach = draws.one_of(axis, length), (half * length).astype(np.int64)
        edges.append((np.clip(middle - reach, 0, length), np.clip(middle + reach, 0, length)))
    (top, bottom), (begin, end) = edges
    return np.stack([top, begin, bottom, end])


class MixedFeed:
    """A feed whose samples are mixed, each with the one before it in the global batch.

    Args:
        feed: of the samples themselves.
        augment: draws the number of each.
        mixing: what is done.
    """

    def __init__(self, feed: Feed, augment: Augment, mixing: Mixing) -> None:
        self._feed = feed
        self._augment = augment
        self._mixing = mixing
        if mixing.classes is not None:
            feed.expect_classes(mixing.classes)

    @property
    def pads_by_batch(self) -> bool:
        """Say whether a batch's shape depends on which samples are in it."""
        return self._feed.pads_by_batch

    def pad_length(self, indices: Indices) -> int | None:
        """Return what the samples of a global batch are padded to; None where nothing is padded."""
        return self._feed.pad_length(indices)

    def expect_classes(self, classes: int, ignored: int | None = None) -> None:  # noqa: ARG002 - Feed
        """Check the targets before they are mixed; there is no part of a label that the loss leaves out."""
        self._feed.expect_classes(min(classes, self._mixing.classes or classes))

    def fetch(self, work: Iterator[Work]) -> Iterator[StepBatch]:
        """Yield the batches of ``work``, one for each item."""
        pending: deque[Work] = deque()

        def asked() -> Iterator[Work]:
            for item in work:
                pending.append(item)
                yield _with_partners(item)

        for batch in self._feed.fetch(asked()):
            item = pending.popleft()
            numbers = self._augment.random_numbers(item.epoch, item.draws)
            ends = np.cumsum(item.micro)
            parts = np.split(numbers, ends[:-1])
            micro = [self._mix(pair, part) for pair, part in zip(batch.micro, parts, strict=True)]
            read = np.delete(batch.indices, [0, *(ends[:-1] + np.arange(1, len(ends)))])
            yield StepBatch(micro, read, item)

    def _mix(self, pair: Any, numbers: NDArray[np.uint64]) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = pair if isinstance(pair, list | tuple) and len(pair) == _PAIR else (pair, None)
        return self._mixing.apply(x, y, numbers)


def _with_partners(item: Work) -> Work:
    """Put the first sample's partner in front of each micro-batch; within one, each is the next one's."""
    ends = np.cumsum(item.micro)[:-1]
    draws = item.draws
    index, key = item.before or (int(item.indices[-1]), int(draws[-1]))
    indices = np.insert(item.indices, [0, *ends], [index, *item.indices[ends - 1]])
    keys = np.insert(draws, [0, *ends], [key, *draws[ends - 1]])
    return replace(item, indices=indices, micro=[size + 1 for size in item.micro], keys=keys)

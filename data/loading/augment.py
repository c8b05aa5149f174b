"""Random changes of training images, each a function of (seed, epoch, sample) and of nothing else.

One 64-bit number decides everything about a sample, so that its appearance depends neither on its batch, nor on the
process, worker or device that reads it, nor on the step at which a run was resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..common import TrainingError, UsageError
from ..config import COLOURED, MIXING, AugmentConfig, AugmentStep, DatasetInfo
from ..order import Indices, bits

if TYPE_CHECKING:
    import torch

_KEY = 0x6175676D656E74  # "augment" in ASCII: apart from every other stream of the seed
_IMAGE = 3  # dimensions: channels, height, width
_MAX_CHANNELS = 4
_BITS = np.uint64(31)  # for each offset: no choice is more than (2 crop + 1) / 2^31 too frequent
_LOW = np.uint64(2**31 - 1)


@dataclass(frozen=True)
class Augmentation:
    """Random crops and flips of batches, on whatever device they are.

    A crop takes the original size out of the image with ``crop`` pixels of 0 on each side, 0 as stored: before
    any normalisation, like ``torchvision.transforms.RandomCrop`` on the image itself.
    """

    crop: int
    flip: bool
    seed: int
    steps: tuple[AugmentStep, ...] = ()
    base: Path = Path()
    """The folder that names of the user's own transforms start from."""
    mixing: Any = None
    """A ``Mixing``, which comes after the steps, and after normalisation; None mixes nothing."""

    @property
    def draws_globally(self) -> bool:
        """Whether a transform draws from the global generators, which no other thread may use meanwhile."""
        return any(step.is_own for step in self.steps)

    def __call__(self, x: Any, epoch: int, indices: Indices) -> torch.Tensor:
        """Augment ``x`` [B, C, H, W], the samples ``indices`` [B] of an epoch."""
        return self.apply(x, self.random_numbers(epoch, indices))

    def random_numbers(self, epoch: int, indices: Indices) -> NDArray[np.uint64]:
        """Draw the number that decides about each sample, uint64 [B]."""
        return bits((_KEY, self.seed, epoch), indices.astype(np.uint64))

    def apply(self, x: Any, draws: NDArray[np.uint64]) -> torch.Tensor:
        """Augment images by their ``draws``, into a new tensor on the device of ``x``; nothing waits for it.

        Raises:
            TrainingError: ``x`` is not a batch of images.
        """
        import torch

        if not isinstance(x, torch.Tensor) or x.ndim != 1 + _IMAGE or self.crop >= min(x.shape[2:]):
            what = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise TrainingError(
                f"data.augment: a batch of inputs is {what}, not images [B, C, H, W] larger than the crop",
                "return images of one size, [channels, height, width], or leave data.augment out",
            )
        if not (self.crop or self.flip):
            return self._stepped(x, draws)
        starts, rows = torch.from_numpy(self._crop_starts(draws, x.shape)).to(x.device, non_blocking=True)
        if self.crop:
            x = _crop_views(torch.nn.functional.pad(x, (self.crop,) * 4), x.shape).index_select(0, starts)
        # Of each image and its mirror image one is taken: 2.4 times as fast as torch.where on bytes.
        return self._stepped(torch.cat([x, x.flip(3)]).index_select(0, rows) if self.flip else x, draws)

    def _stepped(self, x: torch.Tensor, draws: NDArray[np.uint64]) -> torch.Tensor:
        from .augment_steps import apply_steps  # it needs torch

        return apply_steps(x, draws, self.steps, self.base) if self.steps else x

    def _crop_starts(self, draws: NDArray[np.uint64], shape: Sequence[int]) -> NDArray[np.int64]:
        """Locate each crop: its start among all padded pixels, its row among images and mirrored ones, int64 [2, B]."""
        count, channels, height, width = shape
        choices = np.uint64(2 * self.crop + 1)
        top, left = (
            (part & _LOW) * choices >> _BITS for part in (draws >> np.uint64(33), draws >> np.uint64(2))
        )
        wide = width + 2 * self.crop
        image = np.arange(count, dtype=np.int64)
        starts = image * (channels * (height + 2 * self.crop) * wide) + (top * np.uint64(wide) + left).astype(
            np.int64
        )
        return np.stack([starts, image + count * (draws & np.uint64(1)).astype(np.int64)])


def _crop_views(padded: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """View every crop: entry n starts at pixel n of ``padded``. Choosing is five times as fast as indexing."""
    _, channels, height, width = shape
    _, plane, line, _ = padded.stride()
    last = (channels - 1) * plane + (height - 1) * line + width - 1
    return padded.as_strided((padded.numel() - last, channels, height, width), (1, plane, line, 1))


def augmentation(
    config: AugmentConfig, seed: int, base: Path, classes: int | None = None
) -> Augmentation | None:
    """Make the augmentation that the config, a file in ``base``, asks for; None where it asks for none.

    Args:
        config: ``data.augment``.
        seed: of the run.
        base: the folder of the config file.
        classes: of the data set, where its targets are classes.
    """
    if config.is_off:
        return None
    steps = tuple(step for step in config.steps if step.use not in MIXING)
    mixing = None
    if len(steps) < len(config.steps):
        from .mixing import Mixing  # it needs torch

        mixing = Mixing(config.steps[len(steps) :], classes)
    return Augmentation(config.crop, config.flip, seed, steps, base, mixing)


def check_augment(config: AugmentConfig, facts: DatasetInfo, base: Path) -> None:
    """Refuse a data set that cannot be augmented as the config asks.

    Raises:
        UsageError: its inputs are not images, or smaller than the crop; or a step has other needs.
        TrainingError: a transform of the user's own cannot be made.
    """
    if config.is_off:
        return
    shape = facts.input_shape
    if shape is None or len(shape) != _IMAGE:
        what = "of a shape that is not known" if shape is None else f"of shape {list(shape)}"
        raise UsageError(
            f"data.augment is for images, [channels, height, width]; the inputs of {facts.name} are {what}",
            "leave data.augment out, or augment in the data set's own __getitem__",
        )
    channels, height, width = shape
    if width <= _MAX_CHANNELS < channels:
        raise UsageError(
            f"data.augment: the inputs of {facts.name} are of shape {list(shape)}: the channels seem to be last",
            "return [channels, height, width]: image.permute(2, 0, 1)",
        )
    if config.crop >= min(height, width):
        raise UsageError(
            f"data.augment.crop: {config.crop} pixels of padding for images of {height} x {width} pixels",
            f"choose 0 to {min(height, width) - 1}",
        )
    for step in config.steps:
        _check_step(step, facts, base)


def _check_mixing(step: AugmentStep, facts: DatasetInfo) -> None:
    """Refuse what cannot be mixed."""
    if facts.kind == "shards" or facts.train.shard_lengths:
        raise UsageError(
            f"data.augment: {step.use} needs a sample that another process may read: not of shards or iterables",
            "mix in your loss or step, or leave it out",
        )
    if facts.input_dtype == "uint8" and not facts.scale_uint8:
        raise UsageError(
            f"data.augment: {step.use}: the inputs of {facts.name} are bytes, of which there is no part",
            "set data.scale_uint8=true",
        )
    asked = int(step.settings["classes"])
    if asked and facts.classes is not None and asked < facts.classes:
        raise UsageError(
            f"data.augment: {step.use}: classes: {asked}, but {facts.name} has {facts.classes}",
            "leave it out: the data says how many there are",
        )


def _check_step(step: AugmentStep, facts: DatasetInfo, base: Path) -> None:
    """Refuse what a step cannot do with the images of a set."""
    channels, height, width = facts.input_shape or (0, 0, 0)
    if step.use in MIXING:
        _check_mixing(step, facts)
    if step.is_own:
        from .augment_steps import load_transform  # it needs torch

        load_transform(step, base)
    if step.use in COLOURED and (facts.input_dtype != "uint8" or channels not in (1, 3)):
        raise UsageError(
            f"data.augment: {step.use} is for bytes of one channel or three; the inputs of {facts.name} are"
            f" {facts.input_dtype} of {channels}",
            "leave it out, or return uint8 and set data.scale_uint8",
        )
    if step.use == "crop" and step.settings["padding"] >= min(height, width):
        raise UsageError(
            f"data.augment: crop: {step.settings['padding']} pixels of padding for {height} x {width} pixels",
            f"choose 0 to {min(height, width) - 1}",
        )

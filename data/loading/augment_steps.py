"""The steps of ``data.augment``, applied to batches: each image by its own number, whatever else is in the batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..common import TrainingError, load_callable
from ..config import AugmentStep
from ..order import seed_global_generators
from . import auto_augment
from .augment_colour import blur, colour, grey
from .augment_draws import Draws, Images
from .augment_geometry import affine, erase, flip, flip_vertical, random_resized_crop, rotate, shift

Operation = Callable[[Images, Draws, Mapping[str, Any]], Images]
_OPERATIONS: dict[str, Operation] = {
    "crop": shift,
    "flip": flip,
    "flip_vertical": flip_vertical,
    "random_resized_crop": random_resized_crop,
    "rotate": rotate,
    "affine": affine,
    "colour": colour,
    "grey": grey,
    "blur": blur,
    "erase": erase,
    "rand_augment": auto_augment.rand_augment,
    "trivial_augment": auto_augment.trivial_augment,
}
_made: dict[tuple[str, str, str], Callable[[Any], Any]] = {}


def apply_steps(
    x: torch.Tensor, numbers: NDArray[np.uint64], steps: Sequence[AugmentStep], base: Path
) -> torch.Tensor:
    """Apply the steps in their order; between them bytes are numbers with a fraction, and bytes again at the end.

    Args:
        x: images [B, C, H, W].
        numbers: what decides about each, uint64 [B].
        steps: of the config.
        base: the folder of the config file.

    Raises:
        TrainingError: a transform of the user's own raised, or returned images of several sizes.
    """
    stored = x.dtype
    for place, step in enumerate(steps):
        draws = Draws(numbers, place)
        if step.is_own:
            x = _by_own_transform(_as_stored(x, stored), draws, step, base)
            stored = x.dtype if stored != torch.uint8 or x.dtype.is_floating_point else stored
        else:
            x = _OPERATIONS[step.use](x if x.is_floating_point() else x.float(), draws, step.settings)
    return _as_stored(x, stored)


def _as_stored(x: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    return x.round().clamp(0, 255).to(kind) if kind == torch.uint8 and x.is_floating_point() else x


def _by_own_transform(x: torch.Tensor, draws: Draws, step: AugmentStep, base: Path) -> torch.Tensor:
    """Call a transform with one image after the other, each with generators of its own seed.

    On a batch most transforms draw once for all of it.
    """
    transform = load_transform(step, base)
    seeds = (draws.bits(0) >> np.uint64(1)).tolist()
    with _generators_kept(x.device):
        images = [
            _transformed(transform, image, seed, step.use) for image, seed in zip(x, seeds, strict=True)
        ]
    if len({(tuple(image.shape), image.dtype) for image in images}) > 1:
        raise TrainingError(
            f"data.augment: {step.use} returned images of several shapes or types", "return all in one size"
        )
    return torch.stack(images)


def _transformed(transform: Callable[[Any], Any], image: torch.Tensor, seed: int, name: str) -> torch.Tensor:
    seed_global_generators(seed)
    if image.is_cuda:
        torch.cuda.manual_seed(seed)
    try:
        changed = transform(image)
    except Exception as error:
        raise TrainingError(
            f"data.augment: {name} raised {type(error).__name__}: {error}",
            f"it is called with one image, a tensor of {image.dtype} {list(image.shape)}",
        ) from error
    if not isinstance(changed, torch.Tensor):
        raise TrainingError(
            f"data.augment: {name} returned {type(changed).__name__}", "return the changed image, a tensor"
        )
    return changed


def load_transform(step: AugmentStep, base: Path) -> Callable[[Any], Any]:
    """Make a transform of the user's own, once in a process.

    Raises:
        UsageError: there is no such class.
        TrainingError: it does not take its arguments.
    """
    key = (step.use, str(base), repr(sorted(step.settings.items())))
    if key not in _made:
        _made[key] = _make(step, base)
    return _made[key]


def _make(step: AugmentStep, base: Path) -> Callable[[Any], Any]:
    make = load_callable(step.use, base)
    try:
        transform: Callable[[Any], Any] = make(**step.settings)
    except Exception as error:
        raise TrainingError(
            f"data.augment: {step.use} raised {type(error).__name__}: {error}", "correct its args"
        ) from error
    return transform


@contextmanager
def _generators_kept(device: torch.device) -> Iterator[None]:
    """Leave the global generators as they were: the model draws from them."""
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002 - the one that others draw from
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)  # noqa: NPY002

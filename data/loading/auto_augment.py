"""RandAugment and TrivialAugment: for each image other operations, from one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from .augment_colour import blend, brightness, contrast, saturation
from .augment_draws import Draws, Floats, Images, changed, column
from .augment_geometry import moved

_WHITE = 255.0
_BINS = 31
_SIDE = 331.0  # pixels of the images for which RandAugment's greatest shift is 150
_POSTERIZED = 255
Change = Callable[[Images, Floats], Images]


def _shift_right(x: Images, pixels: Floats) -> Images:
    return moved(x, right=np.trunc(pixels))


def _shift_down(x: Images, pixels: Floats) -> Images:
    return moved(x, down=np.trunc(pixels))


def _shear_x(x: Images, amount: Floats) -> Images:
    return moved(x, shear_x=np.degrees(np.arctan(amount)))


def _shear_y(x: Images, amount: Floats) -> Images:
    return moved(x, shear_y=np.degrees(np.arctan(amount)))


def _turn(x: Images, angle: Floats) -> Images:
    return moved(x, angle=angle)


def sharpness(x: Images, factor: torch.Tensor) -> Images:
    """Blend with a blurred picture, whose edge is that of the picture."""
    blurred = x.clone()
    high, wide = x.shape[2] - 2, x.shape[3] - 2
    inner = 4.0 * x[:, :, 1:-1, 1:-1]
    for place in range(9):
        inner = inner + x[:, :, place // 3 : place // 3 + high, place % 3 : place % 3 + wide]
    blurred[:, :, 1:-1, 1:-1] = torch.round(inner / 13.0)
    return blend(x, blurred, factor)


def posterize(x: Images, step: torch.Tensor) -> Images:
    """Keep multiples of a power of 2 of each byte."""
    return (x.round() / step).floor() * step


def solarize(x: Images, threshold: torch.Tensor) -> Images:
    """Invert what is at least as bright as a threshold."""
    return torch.where(x >= threshold, _WHITE - x, x)


def autocontrast(x: Images) -> Images:
    """Stretch each channel from 0 to 255."""
    least, most = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    flat = most == least
    return torch.where(flat, x, (x - least) * (_WHITE / torch.where(flat, 1.0, most - least)))


def equalize(x: Images) -> Images:
    """Make all brightnesses of each channel as frequent, as Pillow does."""
    values = x.round().to(torch.int64).flatten(2)
    counts = torch.zeros((*values.shape[:2], 256), dtype=torch.int64, device=x.device)
    counts.scatter_add_(2, values, torch.ones_like(values))
    last = counts.gather(2, values.amax(2, keepdim=True))
    step = (values.shape[2] - last) // 255
    above = counts.cumsum(2) - counts
    table = ((above + step // 2) // step.clamp(min=1)).clamp(0, 255)
    return torch.where(step == 0, values, table.gather(2, values)).to(x.dtype).view_as(x)


_SIGNED: dict[str, Change] = {
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "right": _shift_right,
    "down": _shift_down,
    "rotate": _turn,
    "brightness": lambda x, amount: brightness(x, column(1 + amount, x)),
    "saturation": lambda x, amount: saturation(x, column(1 + amount, x)),
    "contrast": lambda x, amount: contrast(x, column(1 + amount, x)),
    "sharpness": lambda x, amount: sharpness(x, column(1 + amount, x)),
}
_OTHERS: dict[str, Change] = {
    "identity": lambda x, _: x,
    "posterize": lambda x, amount: posterize(x, column(amount, x)),
    "solarize": lambda x, amount: solarize(x, column(amount, x)),
    "autocontrast": lambda x, _: autocontrast(x),
    "equalize": lambda x, _: equalize(x),
}
_ALL: dict[str, Change] = {**_SIGNED, **_OTHERS}
_MOST_RAND = {"shear_x": 0.3, "shear_y": 0.3, "rotate": 30.0}
_MOST_TRIVIAL = {"shear_x": 0.99, "shear_y": 0.99, "right": 32.0, "down": 32.0, "rotate": 135.0}


def rand_augment(x: Images, draws: Draws, settings: Mapping[str, Any]) -> Images:
    """Apply ``n`` operations to each image, all of one magnitude (Cubuk and others, 2019; torchvision's table)."""
    share = np.full(len(draws), settings["magnitude"] / (_BINS - 1))
    most = {**_MOST_RAND, "right": 150.0 / _SIDE * x.shape[3], "down": 150.0 / _SIDE * x.shape[2]}
    for number in range(int(settings["n"])):
        x = _one_for_each(x, draws.within(number), share, most, factor=0.9, bits=4)
    return x


def trivial_augment(x: Images, draws: Draws, settings: Mapping[str, Any]) -> Images:  # noqa: ARG001 - as others
    """Apply one operation to each image, of any magnitude (Müller and Hutter, 2021; torchvision's wide table)."""
    share = draws.one_of(1, _BINS) / (_BINS - 1)
    return _one_for_each(x, draws.within(0), share, _MOST_TRIVIAL, factor=0.99, bits=6)


def _one_for_each(
    x: Images, draws: Draws, share: Floats, most: Mapping[str, float], *, factor: float, bits: int
) -> Images:
    """Apply one operation of the table to each image, to a share of its greatest amount."""
    chosen, signs = draws.one_of(0, len(_ALL)), draws.signs(1)
    for place, (name, change) in enumerate(_ALL.items()):
        rows = np.flatnonzero(chosen == place)
        amount = share[rows] * most.get(name, factor)
        if name in _SIGNED:
            amount = amount * signs[rows]
        elif name == "posterize":
            amount = 2.0 ** np.rint(share[rows] * bits)
        elif name == "solarize":
            amount = _POSTERIZED * (1 - share[rows])
        x = changed(x, rows, lambda some, change=change, amount=amount: change(some, amount))  # type: ignore[misc]
    return x

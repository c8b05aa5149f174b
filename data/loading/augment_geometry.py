"""Operations that move pixels. All are sums and products for each pixel: an image's bits do not depend on its batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .augment_draws import Draws, Floats, Images, boxes, changed, column, rows_on


def shift(x: Images, draws: Draws, settings: Mapping[str, Any]) -> Images:
    """Crop the original size out of the image with ``padding`` pixels of 0 around it."""
    padding = int(settings["padding"])
    top, left = (draws.one_of(what, 2 * padding + 1) for what in (0, 1))
    padded = torch.nn.functional.pad(x, (padding,) * 4)
    count, _, high, wide = x.shape
    lines = rows_on(top[:, None] + np.arange(high), x).view(count, 1, high, 1)
    columns = rows_on(left[:, None] + np.arange(wide), x).view(count, 1, 1, wide)
    chosen = padded.gather(2, lines.expand(-1, x.shape[1], -1, padded.shape[3]))
    return chosen.gather(3, columns.expand(-1, x.shape[1], high, -1))


def flip(x: Images, draws: Draws, settings: Mapping[str, Any]) -> Images:
    """Mirror, left to right."""
    return changed(x, draws.chosen(0, settings["p"]), lambda some: some.flip(3))


def flip_vertical(x: Images, draws: Draws, settings: Mapping[str, Any]) -> Images:
    """Mirror, top to bottom."""
    return changed(x, draws.chosen(0, settings["p"]), lambda some: some.flip(2))


def random_resized_crop(x: Images, draws: Draws, settings: Mapping[str, Any]) -> Images:
    """Cut out a box and enlarge it to the size of the image."""
    high, wide = x.shape[2:]
    found, missing = boxes(draws, (high, wide), settings["scale"], settings["ratio"])
    found[:, missing] = np.array([_middle(high, wide, settings["ratio"])]).T
    top, left, h, w = (column(side, x) for side in found)
    down = ((_line(high, x) + 0.5) * (h / high) - 0.5).clamp(min=0).minimum(h - 1) + top
    right = ((_row(wide, x) + 0.5) * (w / wide) - 0.5).clamp(min=0).minimum(w - 1) + left
    return sample(x, right, down)


def _middle(high: int, wide: int, ratio: Any) -> tuple[int, int, int, int]:
    """Return the largest box in the middle whose sides are in a ratio that is allowed, where none was found."""
    h, w = high, wide
    if wide / high < ratio[0]:
        h = round(wide / ratio[0])
    elif wide / high > ratio[1]:
        w = round(high * ratio[1])
    return (high - h) // 2, (wide - w) // 2, h, w


def rotate(x: Images, draws: Draws, settings: Mapping[str, Any]) -> Images:
    """Turn about the middle; what was not in the picture is 0."""
    most = settings["degrees"]
    return moved(x, angle=draws.uniform(0, -most, most))


def affine(x: Images, draws: Draws, settings: Mapping[str, Any]) -> Images:
    """Turn, move, scale and shear."""
    high, wide = x.shape[2:]
    degrees, share, shear = (settings[key] for key in ("degrees", "translate", "shear"))
    return moved(
        x,
        angle=draws.uniform(0, -degrees, degrees),
        right=np.rint(draws.uniform(1, -share * wide, share * wide)),
        down=np.rint(draws.uniform(2, -share * high, share * high)),
        scale=draws.uniform(3, *settings["scale"]),
        shear_x=draws.uniform(4, -shear, shear),
    )


def erase(x: Images, draws: Draws, settings: Mapping[str, Any]) -> Images:
    """Set a box to 0."""
    rows = draws.chosen(0, settings["p"])
    found, missing = boxes(draws.within(1), (x.shape[2], x.shape[3]), settings["scale"], settings["ratio"])
    rows = rows[~missing[rows]]

    def blank(some: Images) -> Images:
        top, left, h, w = (column(side[rows], some) for side in found)
        line, row = _line(some.shape[2], some), _row(some.shape[3], some)
        inside = (line >= top) & (line < top + h) & (row >= left) & (row < left + w)
        return some.masked_fill(inside, 0)

    return changed(x, rows, blank)


def moved(
    x: Images,
    *,
    angle: Floats | None = None,
    right: Floats | None = None,
    down: Floats | None = None,
    scale: Floats | None = None,
    shear_x: Floats | None = None,
    shear_y: Floats | None = None,
) -> Images:
    """Move pixels as ``torchvision.transforms.v2.functional.affine`` does about the middle, bilinear, 0 around it.

    Angles are in degrees, and what is left out is not done.
    """
    zeros, ones = np.zeros(len(x)), np.ones(len(x))
    values = [zeros if given is None else given for given in (angle, right, down, shear_x, shear_y)]
    scales = ones if scale is None else scale
    inverse = np.array([_inverse(*one) for one in zip(*values, scales, strict=True)]).reshape(-1, 6)
    a, b, c, d, e, f = (column(part, x) for part in inverse.T)
    high, wide = x.shape[2:]
    line, row = _line(high, x) - (high - 1) / 2, _row(wide, x) - (wide - 1) / 2
    return sample(x, a * row + b * line + c + (wide - 1) / 2, d * row + e * line + f + (high - 1) / 2)


def _inverse(
    angle: float, right: float, down: float, shear_x: float, shear_y: float, scale: float
) -> tuple[float, ...]:
    """Compute where a pixel comes from, as the first two rows of a matrix: ``math``, which no batch vectorises."""
    rot, sx, sy = (math.radians(one) for one in (angle, shear_x, shear_y))
    a = math.cos(rot - sy) / math.cos(sy)
    b = -math.cos(rot - sy) * math.tan(sx) / math.cos(sy) - math.sin(rot)
    c = math.sin(rot - sy) / math.cos(sy)
    d = -math.sin(rot - sy) * math.tan(sx) / math.cos(sy) + math.cos(rot)
    left, up = -right, -down
    return (
        d / scale, -b / scale, (d * left - b * up) / scale,
        -c / scale, a / scale, (-c * left + a * up) / scale,
    )  # fmt: skip


def sample(x: Images, right: torch.Tensor, down: torch.Tensor) -> Images:
    """Read pixels at places between them, bilinear; outside is 0.

    Args:
        x: images.
        right: columns, [B, 1, H or 1, W].
        down: lines, [B, 1, H, W or 1].
    """
    count, _, high, wide = x.shape
    right, down = (place.expand(count, 1, high, wide)[:, 0] for place in (right, down))
    grid = torch.stack([(2 * right + 1) / wide - 1, (2 * down + 1) / high - 1], 3).to(x.dtype)
    return torch.nn.functional.grid_sample(x, grid, align_corners=False)


def _line(high: int, like: Images) -> torch.Tensor:
    return torch.arange(high, dtype=torch.float32, device=like.device).view(1, 1, -1, 1)


def _row(wide: int, like: Images) -> torch.Tensor:
    return torch.arange(wide, dtype=torch.float32, device=like.device).view(1, 1, 1, -1)

"""Operations that change colours: sums and products for each pixel, so that no image depends on its batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .augment_draws import Draws, Images, changed, column

_WHITE = 255.0
_RGB = 3


def colour(x: Images, draws: Draws, settings: Mapping[str, Any]) -> Images:
    """Change brightness, contrast, saturation and hue, in this order."""
    for what, (name, change) in enumerate(
        (("brightness", brightness), ("contrast", contrast), ("saturation", saturation))
    ):
        if most := settings[name]:
            x = change(x, column(draws.uniform(what, max(0.0, 1 - most), 1 + most), x))
    most = settings["hue"]
    return hue(x, column(draws.uniform(3, -most, most), x)) if most and x.shape[1] == _RGB else x


def grey(x: Images, draws: Draws, settings: Mapping[str, Any]) -> Images:
    """Take the colours away."""
    return changed(x, draws.chosen(0, settings["p"]), lambda some: luminance(some).expand_as(some))


def blur(x: Images, draws: Draws, settings: Mapping[str, Any]) -> Images:
    """Blur by a Gaussian, with the picture mirrored at its edges."""
    rows = draws.chosen(0, settings["p"])
    sigmas = draws.uniform(1, *settings["sigma"])[rows]
    radius = min(math.ceil(3 * settings["sigma"][1]), min(x.shape[2:]) - 1)

    def spread(some: Images) -> Images:
        weights = np.array([_gauss(sigma, radius) for sigma in sigmas])
        for axis in (2, 3):
            edges = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)  # noqa: PLR2004 - lines
            padded = torch.nn.functional.pad(some, edges, mode="reflect")
            size = some.shape[axis]
            some = padded.narrow(axis, 0, size) * column(weights[:, 0], some)
            for k in range(1, 2 * radius + 1):
                some = some + padded.narrow(axis, k, size) * column(weights[:, k], some)
        return some

    return changed(x, rows, spread)


def _gauss(sigma: float, radius: int) -> list[float]:
    """Weigh the pixels beside one: ``math``, which no batch vectorises."""
    weights = [math.exp(-0.5 * (place / sigma) ** 2) for place in range(-radius, radius + 1)]
    whole = math.fsum(weights)
    return [weight / whole for weight in weights]


def luminance(x: Images) -> Images:
    """Compute how bright each pixel is, [B, 1, H, W]."""
    if x.shape[1] != _RGB:
        return x
    return 0.2989 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]


def blend(x: Images, other: Images, share: torch.Tensor) -> Images:
    """Mix with another picture, or go away from it where the share is above 1."""
    return (share * x + (1 - share) * other).clamp(0, _WHITE)


def brightness(x: Images, factor: torch.Tensor) -> Images:
    """Multiply."""
    return (x * factor).clamp(0, _WHITE)


def contrast(x: Images, factor: torch.Tensor) -> Images:
    """Blend with the mean luminance, which is summed up in whole numbers: their order does not matter."""
    whole = torch.round(luminance(x) * 256).to(torch.int64).sum((1, 2, 3), keepdim=True)
    return blend(x, whole.to(torch.float32) / (256.0 * x.shape[2] * x.shape[3]), factor)


def saturation(x: Images, factor: torch.Tensor) -> Images:
    """Blend with the picture in grey."""
    return blend(x, luminance(x), factor) if x.shape[1] == _RGB else x


def hue(x: Images, turn: torch.Tensor) -> Images:
    """Turn the colours by a part of the circle."""
    red, green, blue = (x / _WHITE).unbind(1)
    most, least = (
        torch.maximum(torch.maximum(red, green), blue),
        torch.minimum(torch.minimum(red, green), blue),
    )
    span = most - least
    divisor = torch.where(span == 0, 1.0, span)
    r, g, b = ((most - one) / divisor for one in (red, green, blue))
    angle = (
        torch.where(most == red, b - g, torch.where(most == green, 2.0 + r - b, 4.0 + g - r)) / 6 + turn[:, 0]
    )
    angle = torch.where(span == 0, 0.0, angle - angle.floor())
    parts = [((angle * 6 + shift) % 6) for shift in (5.0, 3.0, 1.0)]
    return torch.stack([most - span * torch.minimum(p, 4 - p).clamp(0, 1) for p in parts], 1) * _WHITE

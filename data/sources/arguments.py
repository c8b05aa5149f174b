"""Checks of ``data.args`` that several data sets share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from ..common import UsageError, meant


def refuse_unknown_arguments(name: str, args: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises UsageError when ``args`` has a key that the data set ``name`` does not know."""
    names = sorted(known)
    for key in args:
        if key not in names:
            raise UsageError(
                f"data.args.{key}: {name} has no such argument{meant(str(key), names)}",
                f"the arguments of {name} are {', '.join(names)}",
            )


def integer(args: Mapping[str, Any], key: str, default: int, least: int) -> int:
    """``args[key]``, a whole number of at least ``least``."""
    value = args.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(
            f"data.args.{key}: {value!r} is not a whole number of at least {least}",
            f"leave it out for {default}",
        )
    return value


def text(args: Mapping[str, Any], key: str, default: str | None = None) -> str | None:
    """``args[key]``, a string that is not empty, or ``default``."""
    value = args.get(key, default)
    if value is not None and (not isinstance(value, str) or not value):
        raise UsageError(f"data.args.{key}: {value!r} is no text", "write it in quotes")
    return value


MeanAndStd = tuple[tuple[float, ...] | None, tuple[float, ...] | None]


def normalisation(args: Mapping[str, Any], channels: int) -> MeanAndStd:
    """``mean`` and ``std`` of images that were scaled to 0..1, one number per channel each."""
    mean, std = (_per_channel(args, key, channels) for key in ("mean", "std"))
    if std is not None and min(std) <= 0:
        raise UsageError(f"data.args.std: {min(std)} is not above 0", "images are divided by it")
    return mean, std


def _per_channel(args: Mapping[str, Any], key: str, channels: int) -> tuple[float, ...] | None:
    value = args.get(key)
    if value is None:
        return None
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,) * channels
    if len(numbers) != channels or not all(map(_is_number, numbers)):
        raise UsageError(
            f"data.args.{key}: {value!r} is not a number, or a list of {channels}",
            "give one number for all channels of the images, or one for each",
        )
    return tuple(float(number) for number in numbers)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)

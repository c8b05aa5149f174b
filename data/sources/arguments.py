"""The schemas of ``data.args``: a source's arguments are the fields of a dataclass, each with its default and check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any, TypeVar

from ..common import UsageError, suggestion

Schema = TypeVar("Schema")
MeanAndStd = tuple[tuple[float, ...] | None, tuple[float, ...] | None]


def argument(check: Callable[[str, Any], Any], default: Any = None) -> Any:
    """Declare a field of a schema.

    Args:
        check: is called with the key and a value that was given; returns the value to use, or raises UsageError.
        default: where none was given.
    """
    return field(default=default, metadata={"check": check})


def whole_number(default: int, *, least: int) -> Any:
    """Declare a whole number of at least ``least``."""

    def check(key: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(
                f"data.args.{key}: {value!r} is not a whole number of at least {least}",
                f"leave it out for {default}",
            )
        return value

    return argument(check, default)


def text(default: str | None = None) -> Any:
    """Declare a text that is not empty; null is None."""

    def check(key: str, value: Any) -> str | None:
        if value is not None and (not isinstance(value, str) or not value):
            raise UsageError(f"data.args.{key}: {value!r} is not text", "write it in quotes")
        return value

    return argument(check, default)


def distinct_names(key: str, value: Any) -> tuple[str, ...] | None:
    """Check a list of names, each of them once."""
    if value is None:
        return None
    names = tuple(str(name).strip() for name in value) if isinstance(value, list | tuple) else ()
    if not names or len(set(names)) != len(names) or "" in names:
        raise UsageError(
            f"data.args.{key}: {value!r} is not a list of distinct names", "list every class once"
        )
    return names


def one_or_several_names(key: str, value: Any) -> str | tuple[str, ...] | None:
    """Check a name, or a list of distinct ones."""
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, str):
        raise UsageError(f"data.args.{key}: {value!r} is no name", "write it in quotes")
    return distinct_names(key, value)


def kind_of_label(key: str, value: Any) -> str | None:
    """Check what labels are."""
    if value not in (None, "classes", "numbers"):
        raise UsageError(
            f"data.args.{key}: {value!r} is neither classes nor numbers", "leave it out for classes"
        )
    return str(value) if value is not None else None


def height_and_width(key: str, value: Any) -> tuple[int, int] | None:
    """Check a size in pixels."""
    if value is None:
        return None
    pair = isinstance(value, list | tuple) and len(value) == 2  # noqa: PLR2004 - height and width
    if not pair or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in value):
        raise UsageError(
            f"data.args.{key}: {value!r} is not [height, width] in pixels", "for example [224, 224]"
        )
    return (value[0], value[1])


def one_character(key: str, value: Any) -> str | None:
    """Check one character."""
    if value is not None and (not isinstance(value, str) or len(value) != 1):
        raise UsageError(f"data.args.{key}: {value!r} is not one character", 'for example ";" or "\\t"')
    return value


def colour_mode(key: str, value: Any) -> str | None:
    """Check a colour mode of Pillow's."""
    if value not in (None, "L", "RGB"):
        raise UsageError(f"data.args.{key}: {value!r} is neither L nor RGB", "L is grey, RGB is colour")
    return str(value) if value is not None else None


@dataclass(frozen=True)
class ImageArguments:
    """The arguments that every source of images takes: ``mean`` and ``std``, one number, or one for each channel."""

    mean: float | Sequence[float] | None = argument(lambda _, value: value)
    """Subtracted from images that were scaled to 0..1: one number, or one for each channel; unset is 0."""
    std: float | Sequence[float] | None = argument(lambda _, value: value)
    """What the images are divided by after that: one number, or one for each channel; unset is 1."""

    def normalisation(self, channels: int) -> MeanAndStd:
        """Check ``mean`` and ``std`` of images that were scaled to 0..1; one number per channel each."""
        mean, std = (_per_channel(key, getattr(self, key), channels) for key in ("mean", "std"))
        if std is not None and min(std) <= 0:
            raise UsageError(f"data.args.std: {min(std)} is not above 0", "images are divided by it")
        return mean, std


def read_arguments(source: str, schema: type[Schema], args: Mapping[str, Any]) -> Schema:
    """Check ``data.args`` against the schema of a source.

    Raises:
        UsageError: an argument is unknown, or its value is wrong.
    """
    checks = {found.name: found.metadata["check"] for found in fields(schema)}  # type: ignore[arg-type]
    names = sorted(checks)
    for key in args:
        if key not in checks:
            raise UsageError(
                f"data.args.{key}: {source} has no such argument{suggestion(str(key), names)}",
                f"the arguments of {source} are {', '.join(names)}",
            )
    return schema(**{key: check(key, args[key]) for key, check in checks.items() if key in args})


def _per_channel(key: str, value: Any, channels: int) -> tuple[float, ...] | None:
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

"""What the columns of rows become: numbers, texts, lists of numbers, pictures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .shard_format import BadRowError, Values

if TYPE_CHECKING:
    from PIL import Image

KINDS = ("int", "float", "text", "list", "image", "bytes")
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
_MOST_PIXELS = 2**26
"""Of a picture: a file of a few kilobytes may decode to gigabytes."""


def kind_of(value: Any) -> str:
    """Name what a value is, by its looks."""
    if isinstance(value, bool | int | np.integer | np.bool_):
        return "int"
    if isinstance(value, float | np.floating):
        return "float"
    if isinstance(value, str):
        return "text"
    if isinstance(value, bytes):
        return "image" if value.startswith(_PICTURES) else "bytes"
    if isinstance(value, dict):
        return "image" if value.keys() == {"bytes", "path"} else "other"
    numbers = isinstance(value, list | np.ndarray) and np.asarray(value).dtype.kind in "biuf"
    return "list" if numbers else "other"


def convert(kind: str, name: str, values: Values) -> Values:
    """Convert a column of some rows: numbers become one array, pictures uint8 [channels, height, width].

    Args:
        kind: one of ``KINDS``, or ``other``, which stays as it is.
        name: of the column, for messages.
        values: as they were read.

    Raises:
        BadRowError: one of them is of another kind.
    """
    if kind in ("int", "float"):
        return _numbers(kind, name, values)
    if kind == "list":
        return _lists(name, values)
    if kind == "image":
        return [_picture(name, row, value) for row, value in enumerate(values)]
    wanted = {"text": str, "bytes": bytes}.get(kind)
    for row, value in enumerate(values):
        if value is None or (wanted and not isinstance(value, wanted)):
            raise _unlike(kind, name, row, value)
    return values


def _numbers(kind: str, name: str, values: Values) -> NDArray[Any]:
    if isinstance(values, np.ndarray) and values.ndim == 1:
        if values.dtype.kind == "f" and kind == "int":
            raise _unlike(kind, name, 0, values[0])
        return values if kind == "int" or values.dtype.kind == "f" else values.astype(np.float64)
    types = (int, bool) if kind == "int" else (int, float)
    for row, value in enumerate(values):
        if not isinstance(value, types) or (kind == "float" and isinstance(value, bool)):
            raise _unlike(kind, name, row, value)
    try:
        return np.array(values, np.int64 if kind == "int" else np.float64)
    except OverflowError:
        row = next(row for row, value in enumerate(values) if not -(2**63) <= value < 2**63)
        raise BadRowError(row, f"{name!r} is {values[row]}, which 64 bits do not hold") from None


def _lists(name: str, values: Values) -> Values:
    """Make one array of lists of one length, else an array of each, which only a user's function can put together."""
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return values
    arrays = [_list(name, row, value) for row, value in enumerate(values)]
    whole = len({array.shape for array in arrays}) == 1
    return np.stack(arrays) if whole else arrays


def _list(name: str, row: int, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of several lengths within
        raise _unlike("list", name, row, value) from None
    if not isinstance(value, list | np.ndarray) or (array.size and array.dtype.kind not in "biuf"):
        raise _unlike("list", name, row, value)
    return array if array.size else array.astype(np.int64)


def _picture(name: str, row: int, value: Any) -> NDArray[np.uint8]:
    """Decode a picture."""
    encoded = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(encoded, bytes):
        raise _unlike("image", name, row, value)
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.width * image.height <= _MOST_PIXELS:
                return _pixels(image)
            size = f"{image.width} x {image.height}"
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and others
        raise BadRowError(row, f"{name!r} is not a picture that can be read: {error}") from error
    raise BadRowError(row, f"{name!r} is a picture of {size} pixels, too large to be meant")


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return uint8 [channels, height, width]: grey as one channel, all else as three."""
    grey = image.mode in ("1", "L")
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return np.ascontiguousarray(pixels[None] if grey else np.moveaxis(pixels, 2, 0))


def _unlike(kind: str, name: str, row: int, value: Any) -> BadRowError:
    shown = repr(value)
    found = "null" if value is None else shown if len(shown) < 60 else f"{shown[:56]}…"  # noqa: PLR2004
    return BadRowError(row, f"{name!r} is {found}, not {kind}")

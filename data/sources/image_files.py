"""Opens image files that may be hostile: few formats, a limit on pixels, nothing truncated."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..common import DamagedError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_PIXELS = 64_000_000
"""Checked in the header, before anything is decoded: 22 kB of PNG can claim gigapixels."""


def read_image_header(path: Path) -> tuple[str, tuple[int, int]]:
    """Read mode (``L`` or ``RGB``) and (height, width) of an image from its header.

    Raises:
        DamagedError: it is no image, or one that is refused.
    """
    try:
        with _open(path) as image:
            width, height = image.size
            return ("L" if image.mode in ("1", "L", "LA", "La") else "RGB"), (height, width)
    except DamagedError:
        raise
    except Exception as error:
        raise _image_error(path, error) from error


def load_image(path: Path, mode: str, size: tuple[int, int], *, resize: bool) -> NDArray[np.uint8]:
    """Load an image as uint8 [C, H, W], C = 1 for ``L`` and 3 for ``RGB``.

    Args:
        path: a file of one of ``FORMATS``.
        mode: converted to; transparency is dropped.
        size: (height, width).
        resize: make another size fit, bilinear with antialiasing; else another size is an error.

    Raises:
        DamagedError: the image is corrupt, refused, or of another size.
    """
    try:
        with _open(path) as image:
            _check_size(path, image, None if resize else size)
            pixels = np.array(_convert_and_resize(image, mode, size), dtype=np.uint8)
    except DamagedError:
        raise
    except Exception as error:  # decoders raise whatever the bytes make them raise
        raise _image_error(path, error) from error
    return np.ascontiguousarray(pixels[None] if mode == "L" else pixels.transpose(2, 0, 1))


def _open(path: Path) -> Image.Image:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is the stricter one
        image = Image.open(path, formats=FORMATS)
    try:
        _check_header(path, image)
    except DamagedError:
        image.close()
        raise
    return image


def _check_header(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DamagedError(
            f"{path} claims {width} x {height} pixels", f"at most {MAX_PIXELS // 10**6} million are allowed"
        )
    if image.mode.startswith(("I", "F")):
        raise DamagedError(f"{path} has more than 8 bits per channel", "convert it to 8 bits")


def _convert_and_resize(image: Image.Image, mode: str, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB makes Pillow warn
    if image.mode != mode:
        image = image.convert(mode)
    height, width = size
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _check_size(path: Path, image: Image.Image, size: tuple[int, int] | None) -> None:
    if size is None or image.size == size[::-1]:
        return
    raise DamagedError(
        f"{path} is {image.height} x {image.width} pixels (high x wide), not {size[0]} x {size[1]}",
        "set data.args.size to [height, width], and every image is resized to it",
    )


def _image_error(path: Path, error: Exception) -> DamagedError:
    reason = str(error).replace(str(path), "").strip() or type(error).__name__
    return DamagedError(
        f"{path} is no readable image: {reason}",
        f"allowed are {', '.join(FORMATS)}; replace the file or remove its row",
    )

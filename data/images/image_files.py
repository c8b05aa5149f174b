"""Opens image files that may be hostile: few formats, a limit on pixels, nothing truncated."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..common import DamagedError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 64_000_000
"""Checked in the header, before anything is decoded: 22 kB of PNG can claim gigapixels."""
_MOST_PIXELS = f"at most {MAX_PIXELS // 10**6} million are allowed"

_DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N")
_GREY_MODES = ("1", "L", "LA", "La", *_DEEP_GREY)
_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = 1
_TURNED_BY_PILLOW = ("TIFF",)
"""Formats whose images Pillow itself turns upright."""
_ON_ITS_SIDE = (5, 6, 7, 8)
"""Orientations that exchange height and width."""

_SIGNATURES = (
    (b"%PDF", "PDF"), (b"<svg", "SVG"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"), (b"PK\x03\x04", "ZIP"), (b"<!DOCTYPE", "HTML"), (b"<html", "HTML"),
    (b"version https://git-lfs", "Git LFS pointer"), (b"\0\0\1\0", "ICO"), (b"qoif", "QOI"),
    (b"P5", "PGM"), (b"P6", "PPM"),
)  # fmt: skip
"""First bytes of files that are often taken for images, or are images of other formats."""
_WITH_AN = ("AVIF", "HTML", "ICO", "SVG")
_BOX_BRANDS = {b"avif": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}


LOST = {
    "alpha": ("has an alpha channel, which is dropped", "have an alpha channel, which is dropped"),
    "frames": ("is animated, and its first frame is read", "are animated, and their first frame is read"),
    "depth": (
        "has 16 bits per channel, of which the upper 8 are read",
        "have 16 bits per channel, of which the upper 8 are read",
    ),
    "pages": (
        "has several pages, of which the first is read",
        "have several pages, of which the first is read",
    ),
    "profile": ("is in CMYK and converted without a profile", "are in CMYK and converted without a profile"),
}
"""What an image may have that is not read, in words for one image and for several."""


class ImageHeader(NamedTuple):
    """The facts in an image's header."""

    mode: str
    """``L`` or ``RGB``."""
    size: tuple[int, int]
    """(height, width), upright."""
    is_turned: bool
    """Whether its EXIF data has it turned or mirrored, as viewers do."""
    lost: tuple[str, ...] = ()
    """What of it is not read: the keys of ``LOST``."""


def read_image_header(path: Path) -> ImageHeader:
    """Read what an image is from its header.

    Raises:
        DamagedError: it is not an image, or one that is refused.
    """
    try:
        with _open(path) as image:
            width, height = image.size
            orientation = _orientation(image)
            turned = orientation in _ON_ITS_SIDE and image.format not in _TURNED_BY_PILLOW
            size = (width, height) if turned else (height, width)
            mode = "L" if image.mode in _GREY_MODES else "RGB"
            return ImageHeader(mode, size, orientation != _UPRIGHT, _lost(image))
    except DamagedError:
        raise
    except Exception as error:
        raise _image_error(path, error) from error


def load_image(
    path: Path, mode: str, size: tuple[int, int], *, resize: bool, may_be_colour: bool = True
) -> NDArray[np.uint8]:
    """Load an image as uint8 [C, H, W], C = 1 for ``L`` and 3 for ``RGB``, turned upright as its EXIF data says.

    Args:
        path: a file of one of ``FORMATS``.
        mode: converted to; transparency is dropped.
        size: (height, width).
        resize: make another size fit, bilinear with antialiasing; else another size is an error.
        may_be_colour: else an image that is not grey is an error.

    Raises:
        DamagedError: the image is corrupt, refused, of another size, or in colour.
    """
    try:
        with _open(path) as opened:
            if not may_be_colour:
                _refuse_colour(path, opened)
            image = _turned_upright(opened)
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
        # Pillow warns of many pixels, where the limit here is stricter, and of damaged EXIF data.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(path, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise DamagedError(f"{path} claims far too many pixels", _MOST_PIXELS) from error
    if image.format in _TURNED_BY_PILLOW:
        image.filename = ""  # mapped into memory, one on its side is garbled by Pillow 13.0
    try:
        _check_header(path, image)
    except DamagedError:
        image.close()
        raise
    return image


def _lost(image: Image.Image) -> tuple[str, ...]:
    """Say what of an image will not be read, as far as its header tells."""
    raw_modes = (str(tile[3]) for tile in getattr(image, "tile", ()))
    found = {
        "alpha": image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info,
        "frames": image.format in ("PNG", "WEBP", "GIF") and getattr(image, "is_animated", False),
        "pages": image.format == "TIFF" and getattr(image, "is_animated", False),
        "depth": image.mode in _DEEP_GREY or any(";16" in raw_mode for raw_mode in raw_modes),
        "profile": image.mode == "CMYK",
    }
    return tuple(name for name, is_lost in found.items() if is_lost)


def _orientation(image: Image.Image) -> int:
    """Return the orientation that the EXIF data tells; damaged data tells none.

    Of a PNG only data before the pixels counts: looking behind them decodes the image, 2 ms instead of 0.1.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            orientation = Image.Image.getexif(image).get(_ORIENTATION, _UPRIGHT)
        except Exception:  # noqa: BLE001 - it may hold anything, and the pixels are fine without it
            return _UPRIGHT
    return orientation if orientation in range(_UPRIGHT, _ON_ITS_SIDE[-1] + 1) else _UPRIGHT


def _turned_upright(image: Image.Image) -> Image.Image:
    from PIL import Image

    turns = (
        Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    )  # fmt: skip
    orientation = _UPRIGHT if image.format in _TURNED_BY_PILLOW else _orientation(image)
    pixels = _upper_bits(image) if image.mode in _DEEP_GREY else image
    return pixels if orientation == _UPRIGHT else pixels.transpose(turns[orientation - _UPRIGHT - 1])


def _upper_bits(image: Image.Image) -> Image.Image:
    """Make bytes of 16 bits as Pillow does where there are colours."""
    from PIL import Image

    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _check_header(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DamagedError(f"{path} claims {width} x {height} pixels", _MOST_PIXELS)
    if image.mode.startswith(("I", "F")) and image.mode not in _DEEP_GREY:
        raise DamagedError(f"{path} has more than 16 bits per channel", "convert it to 16 bits, or to 8")


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


def _refuse_colour(path: Path, image: Image.Image) -> None:
    if image.mode not in _GREY_MODES:
        raise DamagedError(
            f"{path} is in colour, and the images that were looked at are grey",
            "set data.args.mode to RGB, or to L for grey images",
        )


def _check_size(path: Path, image: Image.Image, size: tuple[int, int] | None) -> None:
    if size is None or image.size == size[::-1]:
        return
    raise DamagedError(
        f"{path} is {image.height} x {image.width} pixels (high x wide), not {size[0]} x {size[1]}",
        "set data.args.size to [height, width], and every image is resized to it",
    )


def _image_error(path: Path, error: Exception) -> DamagedError:
    reason = (
        str(error).replace(f"{str(path)!r}", "").replace(str(path), "").strip(" :") or type(error).__name__
    )
    if found := _format_by_signature(path):
        reason = f"it is {'an' if found in _WITH_AN else 'a'} {found} file"
    return DamagedError(
        f"{path} is not a readable image: {reason}",
        f"allowed are {', '.join(FORMATS)}; replace the file or remove its row",
    )


def _format_by_signature(path: Path) -> str:
    """Return what kind of file it is by its first bytes; empty where they do not tell."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError:
        return ""
    if head[4:8] == b"ftyp":
        return _BOX_BRANDS.get(head[8:12], "")
    return next((name for signature, name in _SIGNATURES if head.startswith(signature)), "")

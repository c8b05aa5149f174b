"""Image bytes of every kind are refused, or read as Pillow reads them, within a bounded memory."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lockstep.data.common.errors import DamagedError
from lockstep.data.images.image_files import FORMATS, MAX_PIXELS, load_image, read_image_header
from tests.helpers.fuzz import ALL, SAMPLE, fuzz
from tests.helpers.memory_limit import memory_limit

MEMORY = 2**30
"""Bytes that one image may take beside what the process has: a dozen for each of 64 million pixels, and a margin."""
ORIENTATION = 0x0112
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I"]


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """An image as a program writes it, and often damaged."""
    content = draw(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]).flatmap(_saved))
    how = draw(st.sampled_from(["whole", "cut", "flipped", "flipped", "head", "grown", "noise"]))
    if how == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if how == "grown":
        return content + draw(st.binary(max_size=20))
    if how == "noise":
        return content[: draw(st.integers(0, 30))] + draw(st.binary(max_size=200))
    for _ in range(0 if how == "whole" else draw(st.integers(1, 4))):
        place = draw(st.integers(0, min(len(content), 40 if how == "head" else len(content)) - 1))
        content = content[:place] + bytes([draw(st.integers(0, 255))]) + content[place + 1 :]
    return content


@st.composite
def _saved(draw: st.DrawFn, format_: str) -> bytes:
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    pixels = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(pixels).convert(draw(st.sampled_from(MODES)))
    exif = Image.Exif()
    exif[ORIENTATION] = draw(st.integers(0, 9))
    frames = [image, image.transpose(Image.Transpose.ROTATE_180)] if draw(st.booleans()) else [image]
    for options in ({"exif": exif, "save_all": len(frames) > 1, "append_images": frames[1:]}, {}):
        for candidate in (image, image.convert("RGB")):
            file = io.BytesIO()
            with suppress(OSError, ValueError, KeyError):
                candidate.save(file, format_, **options)
                return file.getvalue()
    raise AssertionError(format_)


def read_by_pillow(content: bytes, mode: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read an image as Pillow alone does: decoded, turned upright, converted."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
        opened.load()
        image: Image.Image = opened
        with suppress(Exception):  # damaged EXIF data turns nothing
            image = ImageOps.exif_transpose(opened)
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        assert image.size == size[::-1]
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
        pixels = np.asarray(image.convert(mode), np.uint8)
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


def check_is_refused_or_read_alike(file: Path, content: bytes) -> None:
    """Read a file and compare."""
    file.write_bytes(content)
    loaded = None
    with suppress(DamagedError), memory_limit(MEMORY):
        header = read_image_header(file)
        assert header.size[0] * header.size[1] <= MAX_PIXELS
        loaded = load_image(file, header.mode, header.size, resize=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if loaded is not None:
            assert (loaded == read_by_pillow(content, header.mode, header.size)).all()


def test_image_bytes_are_refused_or_read_as_pillow_reads_them(tmp_path: Path) -> None:
    fuzz(files(), check_is_refused_or_read_alike, tmp_path / "a.png", SAMPLE)


@pytest.mark.exhaustive
def test_many_image_bytes_are_refused_or_read_as_pillow_reads_them(tmp_path: Path) -> None:
    fuzz(files(), check_is_refused_or_read_alike, tmp_path / "a.png", ALL)

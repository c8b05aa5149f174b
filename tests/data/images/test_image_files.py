from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from lockstep.data.common.errors import DamagedError
from lockstep.data.images.image_files import load_image, read_image_header


def save(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def gradient(mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> Image.Image:
    """``size`` is (width, height), as Pillow has it."""
    width, height = size
    pixels = np.arange(width * height * 3).reshape(height, width, 3).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_claiming(path: Path, width: int, height: int) -> Path:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp"])
def test_lossless_formats(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", gradient(), **({"lossless": True} if suffix == "webp" else {}))
    assert read_image_header(path) == ("RGB", (4, 6), False, ())
    loaded = load_image(path, "RGB", (4, 6), resize=False)
    assert (loaded == np.asarray(gradient()).transpose(2, 0, 1)).all()
    assert loaded.flags.writeable
    assert loaded.flags.c_contiguous


def test_a_header_is_read_without_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", gradient())
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("the pixels were read"))
    assert read_image_header(path) == ("RGB", (4, 6), False, ())


def test_jpeg(tmp_path: Path) -> None:
    assert load_image(save(tmp_path / "a.jpg", gradient()), "RGB", (4, 6), resize=False).shape == (3, 4, 6)


@pytest.mark.parametrize(
    ("mode", "expected"), [("1", "L"), ("L", "L"), ("LA", "L"), ("RGB", "RGB"), ("RGBA", "RGB"), ("P", "RGB")]
)
def test_modes(tmp_path: Path, mode: str, expected: str) -> None:
    path = save(tmp_path / "a.png", gradient(mode))
    assert read_image_header(path)[0] == expected
    assert load_image(path, "L", (4, 6), resize=False).shape == (1, 4, 6)
    assert load_image(path, "RGB", (4, 6), resize=False).shape == (3, 4, 6)


def test_palette_with_transparency_does_not_warn(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", gradient("P"), transparency=bytes(range(256)))
    assert load_image(path, "RGB", (4, 6), resize=False).shape == (3, 4, 6)


def test_resize_and_refusal_of_another_size(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", gradient())
    assert load_image(path, "L", (8, 2), resize=True).shape == (1, 8, 2)
    with pytest.raises(DamagedError) as caught:
        load_image(path, "L", (8, 2), resize=False)
    assert f"{path} is 4 x 6 pixels (high x wide), not 8 x 2" in caught.value.message
    assert "data.args.size" in caught.value.hint
    assert caught.value.exit_status == 6


@pytest.mark.parametrize("side", [8_001, 20_000, 100_000])
def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path, side: int) -> None:
    path = png_claiming(tmp_path / "a.png", side, side)
    for open_it in (read_image_header, lambda path: load_image(path, "L", (4, 6), resize=True)):
        with pytest.raises(DamagedError) as caught:
            open_it(path)
        assert str(path) in caught.value.message


@pytest.mark.parametrize("suffix", ["jp2", "ppm", "tga", "eps"])
def test_other_formats_are_refused(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", gradient())
    disguised = path.rename(tmp_path / "a.png")
    with pytest.raises(DamagedError) as caught:
        read_image_header(disguised)
    assert "is not a readable image" in caught.value.message
    assert suffix != "jp2" or "it is a JPEG 2000 file" in caught.value.message
    assert "PNG, JPEG, WEBP, BMP, GIF, TIFF" in caught.value.hint


def frames() -> dict:
    """What makes a file hold a second picture."""
    return {"save_all": True, "append_images": [gradient().transpose(Image.Transpose.ROTATE_180)]}


DEEP = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2601 + 77
TABLE = {
    "jpeg": ("a.jpg", gradient(), {"quality": 80}, ()),
    "grey jpeg": ("a.jpg", gradient("L"), {}, ()),
    "cmyk jpeg": ("a.jpg", gradient("CMYK"), {}, ("profile",)),
    "png": ("a.png", gradient(), {}, ()),
    "palette": ("a.png", gradient("P"), {}, ()),
    "one bit": ("a.png", gradient("1"), {}, ()),
    "webp": ("a.webp", gradient(), {}, ()),
    "animated webp": ("a.webp", gradient(), frames() | {"lossless": True}, ("frames",)),
    "gif": ("a.gif", gradient(), {}, ()),
    "grey gif": ("a.gif", gradient("L"), {}, ()),
    "animated gif": ("a.gif", gradient(), frames(), ("frames",)),
    "transparent gif": (
        "a.gif",
        gradient("P"),
        {"transparency": int(np.array(gradient("P"))[0, 0])},
        ("alpha",),
    ),
    "tiff": ("a.tif", gradient(), {}, ()),
    "compressed tiff": ("a.tif", gradient(), {"compression": "tiff_lzw"}, ()),
    "tiff of two pages": ("a.tif", gradient(), frames(), ("pages",)),
    "16 bit png": ("a.png", Image.fromarray(DEEP), {}, ("depth",)),
    "16 bit tiff": ("a.tif", Image.fromarray(DEEP), {}, ("depth",)),
    "big-endian 16 bit tiff": ("a.tif", Image.fromarray(DEEP.astype(">u2")), {}, ("depth",)),
}


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("kind", TABLE)
def test_formats_are_read_as_pillow_reads_them(tmp_path: Path, kind: str, orientation: int) -> None:
    name, image, options, lost = TABLE[kind]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / name, image, **options, **({} if name.endswith("gif") else {"exif": exif}))
    # By its path, Pillow 13.0 garbles a TIFF on its side.
    with path.open("rb") as file, Image.open(file) as opened:
        opened.load()
        upright: Image.Image = ImageOps.exif_transpose(opened)
        if "16 bit" in kind:
            upright = Image.fromarray((np.array(upright).astype(np.uint16) // 256).astype(np.uint8))
        opaque = upright.convert("RGBA") if "transparency" in upright.info else upright
        pixels = np.array(opaque.convert("RGB"))
    header = read_image_header(path)
    assert (header.size, header.lost) == (pixels.shape[:2], lost)
    assert header.is_turned == (orientation != 1 and not name.endswith("gif"))
    assert (load_image(path, "RGB", header.size, resize=False) == pixels.transpose(2, 0, 1)).all()


def test_sixteen_bits_of_colour_are_the_upper_eight_too(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">6H", 77, 2601, 40_000, 65_535, 256, 255)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    read = load_image(tmp_path / "a.png", "RGB", (1, 2), resize=False)
    assert read[:, 0].T.tolist() == [[0, 10, 156], [255, 1, 0]]


def test_more_than_sixteen_bits_are_refused(tmp_path: Path) -> None:
    for kind in (np.float32, np.int32):
        path = save(tmp_path / "a.tif", Image.fromarray(np.full((4, 6), 40_000, kind)))
        with pytest.raises(DamagedError, match="more than 16 bits"):
            read_image_header(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tif"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", gradient(size=(60, 40)))
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedError) as caught:
            load_image(path, "RGB", (40, 60), resize=False)
        assert str(path) in caught.value.message


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(DamagedError, match=r"not a readable image"):
            load_image(path, "L", (1, 1), resize=False)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_images_are_turned_upright_as_viewers_show_them(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", gradient(), exif=exif, **options)
    with Image.open(path) as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))
    size = upright.shape[:2]
    assert read_image_header(path) == ("RGB", size, orientation != 1, ())
    loaded = load_image(path, "RGB", size, resize=False)
    assert (loaded == upright.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_there_is_not_turns_nothing(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    path = save(tmp_path / "a.jpg", gradient(), exif=exif)
    assert read_image_header(path) == ("RGB", (4, 6), False, ())
    assert load_image(path, "RGB", (4, 6), resize=False).shape == (3, 4, 6)


def test_damaged_exif_data_costs_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", gradient(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense")
    assert read_image_header(path) == ("RGB", (4, 6), False, ())
    assert load_image(path, "RGB", (4, 6), resize=False).shape == (3, 4, 6)


def test_a_colour_image_among_grey_ones_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", gradient())
    with pytest.raises(DamagedError, match="is in colour") as caught:
        load_image(path, "L", (4, 6), resize=False, may_be_colour=False)
    assert "data.args.mode" in caught.value.hint
    grey = save(tmp_path / "b.png", gradient("LA"))
    assert load_image(grey, "L", (4, 6), resize=False, may_be_colour=False).shape == (1, 4, 6)


@pytest.mark.parametrize(
    ("name", "image", "options", "lost"),
    [
        ("a.png", gradient("RGBA"), {}, ("alpha",)),
        ("a.png", gradient("LA"), {}, ("alpha",)),
        ("a.png", gradient("P"), {"transparency": 3}, ("alpha",)),
        ("a.png", gradient(), {"save_all": True, "append_images": [gradient("L")]}, ("frames",)),
        ("a.webp", gradient(), {"save_all": True, "append_images": [Image.new("RGB", (6, 4))]}, ("frames",)),
        ("a.jpg", gradient("CMYK"), {}, ("profile",)),
        ("a.jpg", gradient(), {}, ()),
        ("a.bmp", gradient("P"), {}, ()),
    ],
)
def test_what_of_an_image_is_not_read_is_known(
    tmp_path: Path, name: str, image: Image.Image, options: dict, lost: tuple[str, ...]
) -> None:
    path = save(tmp_path / name, image, **options)
    assert read_image_header(path).lost == lost
    first = np.asarray(image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB"))
    if name == "a.png":
        assert (load_image(path, "RGB", (4, 6), resize=False) == first.transpose(2, 0, 1)).all()


def test_sixteen_bits_of_colour_are_cut_and_that_is_known(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + struct.pack(">6H", *range(row, 60000, 10000)) for row in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert read_image_header(path) == ("RGB", (2, 2), False, ("depth",))
    loaded = load_image(path, "RGB", (2, 2), resize=False)
    assert loaded[:, 0, 1].tolist() == [30000 // 256, 40000 // 256, 50000 // 256]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>", "it is an HTML file"),
        (b"\0\0\0\x1cftypavif", "it is an AVIF file"),
        (b"P6 1 1 255\n...", "it is a PPM file"),
        (b"hello", "cannot identify image file"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=f"a.png is not a readable image: {words}$"):
        read_image_header(path)

"""Images that a CSV lists: odd CSV files, and images of every mode and orientation."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from tests.zoo.case import Case, Refused, Trains

SIDE = 6
TRAIN, VAL = 40, 13
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT_BY = {
    1: None,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
"""How to lay an upright picture down, so that a viewer that obeys the tag shows it upright again."""
Rows = Sequence[tuple[str, int]]  # file name, class
SOURCE = (
    "data.use=csv_images",
    "data.args={train_csv: train.csv, val_csv: val.csv}",
    "optimizer={use: adam, lr: 0.01}",
)
LEARNED = Trains({"val/accuracy": 1.0, "val/count": VAL})
MODEL = """
class Linear(nn.Linear):
    def forward(self, x):
        return super().forward(4 * (x.flatten(1) - 0.5))

def model(): return Linear({}, {})
"""


def _rows(split: str, count: int, suffix: str = "png") -> Rows:
    draw = random.Random(split)
    return [(f"{split}{number}.{suffix}", draw.randint(0, 1)) for number in range(count)]


def _brightness(kind: int, number: int, mode: str = "L") -> Image.Image:
    return Image.new("L", (SIDE, SIDE), 40 + number if kind == 0 else 215 - number).convert(mode)


def _colour(kind: int, number: int) -> Image.Image:
    """Red or blue of about equal grey."""
    return Image.new("RGB", (SIDE, SIDE), (200 + number, 0, 0) if kind == 0 else (0, 90, 96 + number))


def _half(kind: int, number: int) -> Image.Image:
    """Bright above or below."""
    image = Image.new("L", (SIDE, SIDE), 20)
    image.paste(235 - number, (0, 0, SIDE, SIDE // 2) if kind == 0 else (0, SIDE // 2, SIDE, SIDE))
    return image


def images(
    draw: Callable[[int, int], Image.Image] = _brightness,
    *,
    suffix: str = "png",
    label: Callable[[int, int], str] = lambda kind, number: str(kind),
    line: str = "{path},{label}",
    header: str = "path,label",
    encoding: str = "utf-8",
    newline: str = "\n",
    save: Callable[[Image.Image, Path, int], None] = lambda image, path, number: image.save(path),
) -> Callable[[Path], None]:
    """Write ``train.csv``, ``val.csv`` and the images that they list."""

    def write(folder: Path) -> None:
        for split, count in (("train", TRAIN), ("val", VAL)):
            lines = [header]
            for number, (name, kind) in enumerate(_rows(split, count, suffix)):
                save(draw(kind, number), folder / name, number)
                lines.append(line.format(path=name, label=label(kind, number)))
            text = newline.join([*lines, ""])
            (folder / f"{split}.csv").write_bytes(text.encode(encoding))

    return write


def _turned(image: Image.Image, path: Path, number: int) -> None:
    tag = (1, 3, 6, 8)[number % 4]
    turn = UPRIGHT_BY[tag]
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    (image if turn is None else image.transpose(turn)).save(path, exif=exif, quality=95)


def _one_is_empty(image: Image.Image, path: Path, number: int) -> None:
    image.save(path) if number != 1 else path.write_bytes(b"")


def _one_is_cut(image: Image.Image, path: Path, number: int) -> None:
    image.resize((40, 40)).save(path)
    if number == TRAIN - 1:  # the last is always looked at
        path.write_bytes(path.read_bytes()[:-40])


def _animated(image: Image.Image, path: Path, number: int) -> None:
    image.save(path, save_all=True, append_images=[Image.new(image.mode, image.size, 128)])


def _one_is_deep(image: Image.Image, path: Path, number: int) -> None:
    (image.convert("I") if number == 5 else image).save(path)


def _bomb(image: Image.Image, path: Path, number: int) -> None:
    """A PNG whose header claims 10^10 pixels."""
    image.save(path)
    if number == 3:
        content = path.read_bytes()
        claimed = b"IHDR" + struct.pack(">II", 100_000, 100_000) + content[24:29]
        path.write_bytes(content[:12] + claimed + struct.pack(">I", zlib.crc32(claimed)) + content[33:])


def _grey_first(kind: int, number: int) -> Image.Image:
    image = _colour(kind, number)
    return image.convert("L") if number == 0 else image


def image_case(
    name: str,
    files: Callable[[Path], None],
    end: Trains | Refused = LEARNED,
    *,
    channels: int = 1,
    notes: tuple[str, ...] = (),
) -> Case:
    """A case of ``csv_images`` with two classes and a linear model."""
    return Case(name, MODEL.format(channels * SIDE * SIDE, 2), end, SOURCE, notes, files)


IMAGE_CASES = [
    image_case("csv with commas", images()),
    image_case(
        "csv with semicolons", images(header="path;label", line="{path};{label}"), notes=("semicolon",)
    ),
    image_case("csv with tabs", images(header="path\tlabel", line="{path}\t{label}"), notes=("tab",)),
    image_case("csv with a byte order mark and CR LF", images(encoding="utf-8-sig", newline="\r\n")),
    image_case("csv with every field in quotes", images(line='"{path}","{label}"', header='"path","label"')),
    image_case(
        "labels with a gap are names",
        images(label=lambda kind, number: ("2019", "2021")[kind]),
        notes=("2019", "2021"),
    ),
    image_case(
        "blanks around a label are no part of it",
        images(label=lambda kind, number: ("cat", "dog")[kind] + " " * (number % 2)),
    ),
    image_case(
        "measured labels with a class loss",
        images(label=lambda kind, number: f"{kind + 0.013 * number:.3f}"),
        end=Refused(2, ("regression",)),
    ),
    image_case(
        "a column twice",
        images(header="path,label,label", line="{path},{label},0"),
        end=Refused(2, ("label", "train.csv")),
    ),
    image_case("jpeg turned by exif", images(_half, suffix="jpg", save=_turned)),
    image_case(
        "the first image is grey, the others colour", images(_grey_first), channels=3, notes=("grey",)
    ),
    image_case("tiff", images(suffix="tif")),
    image_case("bmp", images(suffix="bmp")),
    image_case(
        "palette",
        images(lambda kind, number: _colour(kind, number).convert("P", palette=Image.Palette.ADAPTIVE)),
        channels=3,
    ),
    image_case(
        "with an alpha channel", images(lambda kind, number: _brightness(kind, number, "RGBA")), channels=3
    ),
    image_case(
        "an empty file", images(save=_one_is_empty), end=Refused(6, ("train.csv:3", "train1.png", "empty"))
    ),
    image_case(
        "csv in utf-16 with tabs", images(header="path\tlabel", line="{path}\t{label}", encoding="utf-16")
    ),
    image_case("csv with blanks around its fields", images(header=" path , label", line="{path}, {label} ")),
    image_case(
        "csv with cr and blank lines", images(header="id,path,label\r", line=",{path},{label}", newline="\r")
    ),
    image_case(
        "csv in latin-1",
        images(header="path,label,käse", line="{path},{label},ü", encoding="latin-1"),
        end=Refused(6, ("line 1", "UTF-8")),
    ),
    image_case(
        "csv without a header", images(header="x0.png,0"), end=Refused(2, ("has no column", "write a header"))
    ),
    image_case(
        "missing values among the labels",
        images(label=lambda kind, number: "NA" if number == 2 else str(kind)),
        end=Refused(6, ("train.csv:4", "'NA'", "missing value")),
    ),
    image_case(
        "measured labels with decimal commas",
        images(header="path;label", line="{path};{label}", label=lambda kind, number: f"{kind},5"),
        end=Refused(2, ("regression",)),
    ),
    image_case("a truncated image", images(save=_one_is_cut), end=Refused(6, ("train39.png", "truncated"))),
    image_case(
        "an image with 32 bits",
        images(save=_one_is_deep, suffix="tif"),
        end=Refused(6, ("train.csv:7", "more than 16 bits")),
    ),
    image_case(
        "a decompression bomb", images(save=_bomb), end=Refused(6, ("train.csv:5", "train3.png", "pixels"))
    ),
    image_case("animated", images(save=_animated), notes=("first frame",)),
    image_case(
        "cmyk",
        images(lambda kind, number: _colour(kind, number).convert("CMYK"), suffix="jpg"),
        channels=3,
        notes=("CMYK",),
    ),
    image_case("lossless webp", images(suffix="webp"), channels=3),
    image_case("1 bit", images(lambda kind, number: Image.new("1", (SIDE, SIDE), kind))),
]

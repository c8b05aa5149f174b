"""Small data sets in the formats of the real ones, and what is left of them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image


def idx_bytes(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def mnist_files(name: str, train: int = 30, val: int = 20) -> dict[str, bytes]:
    rng = np.random.default_rng(7)
    files = {}
    for split, n in (("train", train), ("t10k", val)):
        images = rng.integers(0, 256, (n, 28, 28))
        files[f"{name}/raw/{split}-images-idx3-ubyte"] = idx_bytes(images)
        files[f"{name}/raw/{split}-labels-idx1-ubyte"] = idx_bytes(np.arange(n) % 10)
    return files


def write_mnist(root: Path, name: str = "MNIST", train: int = 30, val: int = 20) -> None:
    for path, content in mnist_files(name, train, val).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def write_images(folder: Path, names: list[str], mode: str = "L", size: tuple[int, int] = (5, 7)) -> None:
    """PNG files of ``size`` (height, width), each in a grey of its own."""
    height, width = size
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (width, height), number if mode == "L" else (number, 0, 0)).save(folder / name)


def _is_lock(path: Path) -> bool:
    return path.parent.name == ".locks" or path.suffix == ".lock"


def files_below(folder: Path) -> list[str]:
    """Everything below a folder but lock files."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and not _is_lock(p))

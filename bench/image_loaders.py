"""Image files as batches: the decoder alone, torch's DataLoader in several settings, and Lockstep's loader."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lockstep_feed import LockstepFeed
from PIL import Image
from timing import Arm, Times, interleave, limited, median_ratio
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lockstep.data.cache import load_array
from lockstep.data.config import DataConfig
from lockstep.data.images import load_image

PHOTO, SIDE = (375, 500), 224
SMALL = 32
CLASSES = 10


def _picture(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Draw something as detailed as a photo: a coarse pattern, with a little noise."""
    coarse = rng.integers(0, 256, (height // 25 + 2, width // 25 + 2, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + rng.normal(0, 8, smooth.shape).astype(np.int16)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def write_folder(folder: Path, count: int) -> None:
    """Write JPEG files of 500 x 375 pixels, a folder for each class."""
    rng = np.random.default_rng(0)
    for number in range(count):
        inside = folder / f"class{number % CLASSES}"
        inside.mkdir(parents=True, exist_ok=True)
        _picture(rng, *PHOTO).save(inside / f"{number:06}.jpg", quality=90)


def write_table(folder: Path, count: int) -> None:
    """Write JPEG files of 32 x 32 pixels, and a CSV of paths and labels."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    lines = ["path,label"]
    for number in range(count):
        _picture(rng, SMALL, SMALL).save(folder / "images" / f"{number}.jpg", quality=90)
        lines.append(f"{number}.jpg,class{number % CLASSES}")
    (folder / "train.csv").write_text("\n".join([*lines, ""]))


class Files(Dataset[Any]):
    """The tutorial's data set of image files: Pillow, and a tensor of floats."""

    def __init__(self, paths: list[Path], side: int) -> None:
        self._paths, self._side = paths, side

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        with Image.open(self._paths[row]) as opened:
            image = opened.convert("RGB")
        if image.size != (self._side, self._side):
            image = image.resize((self._side, self._side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255), row % CLASSES


def _decode(paths: list[Path], side: int, threads: int) -> int:
    """Decode all files by the decoder that Lockstep uses, and do nothing with them."""
    with ThreadPoolExecutor(threads) as pool:
        read = partial(load_image, mode="RGB", size=(side, side), resize=True, may_be_colour=True)
        return sum(1 for _ in pool.map(read, paths))


def _pass(loader: DataLoader[Any]) -> int:
    return sum(len(y) for _, y in loader)


def _loaders(dataset: Dataset[Any], batch: int, workers: list[int]) -> dict[str, Callable[[], int]]:
    found = {}
    for count in workers:
        loader = DataLoader(dataset, batch, shuffle=True, num_workers=count, persistent_workers=count > 0)
        found[f"DataLoader, {count} workers"] = partial(_pass, loader)
    return found


def _timed(reads: dict[str, Callable[[], int]], rounds: int, count: int) -> dict[str, Times]:
    for name, read in reads.items():  # workers start, files are in the page cache
        if read() != count:
            raise SystemExit(f"{name} does not read every image once")
    with limited(1):
        return interleave(
            {name: Arm(_without_result(read)) for name, read in reads.items()},
            rounds,
            np.random.default_rng(0),
        )


def _without_result(read: Callable[[], int]) -> Callable[[], None]:
    def run() -> None:
        read()

    return run


def _report(times: dict[str, Times], count: int, base: str) -> dict[str, Any]:
    return {
        "images a second": {name: round(count / float(np.median(one.wall))) for name, one in times.items()},
        f"{base} / it": {
            name: median_ratio(times[base].wall, one.wall).to_json() for name, one in times.items()
        },
    }


def measure_images(options: argparse.Namespace) -> dict[str, Any]:
    """Measure a folder of JPEG files of 500 x 375 pixels, read as 224 x 224."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LOCKSTEP_CACHE"] = str(folder / "cache")
        write_folder(folder / "images", options.images)
        paths = sorted((folder / "images").rglob("*.jpg"))
        args = {"train": "images", "size": [SIDE, SIDE]}
        config = DataConfig(use="image_folder", args=args, batch_size=options.batch, cache="off")
        cached = LockstepFeed(config.model_copy(update={"cache": "on"}), folder, 0)
        reads = {
            "decoder alone": partial(_decode, paths, SIDE, cores),
            "decoder alone again": partial(_decode, paths, SIDE, cores),
            **_loaders(Files(paths, SIDE), options.batch, options.workers),
            "lockstep, files": LockstepFeed(config, folder, cores).read_epoch,
            "lockstep, cache": cached.read_epoch,
        }
        times = _timed(reads, options.rounds, len(paths))
        best = min((n for n in times if n.startswith("DataLoader")), key=lambda n: np.median(times[n].wall))
        files, kept = times["lockstep, files"].wall, times["lockstep, cache"].wall
        return {
            **_report(times, len(paths), "decoder alone"),
            "the cache was made in s": round(cached.prepared, 2),
            f"{best} / lockstep, files": median_ratio(times[best].wall, files).to_json(),
            "lockstep, files / cache": median_ratio(files, kept).to_json(),
            "goals": {"best DataLoader / files": 1.5, "decoder alone / files": 0.9, "files / cache": 8},
        }


def measure_small_images(options: argparse.Namespace) -> dict[str, Any]:
    """Measure JPEG files of 32 x 32 pixels with a CSV."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LOCKSTEP_CACHE"] = str(folder / "cache")
        write_table(folder, options.images)
        args = {"root": "images", "train_csv": "train.csv"}
        config = DataConfig(use="csv_images", args=args, batch_size=options.batch, cache="on")
        paths = [folder / "images" / f"{number}.jpg" for number in range(options.images)]
        cached = LockstepFeed(config, folder, 0)
        stored = next((folder / "cache").glob("images-*/*.npy"))
        tensors = TensorDataset(
            torch.from_numpy(load_array(stored)[: options.images].copy()), torch.arange(options.images)
        )
        reads = {
            "resident": LockstepFeed(config, folder, 0, resident=True).read_epoch,
            "resident again": LockstepFeed(config, folder, 0, resident=True).read_epoch,
            "lockstep, cache": cached.read_epoch,
            **_loaders(Files(paths, SMALL), options.batch, options.workers),
            "DataLoader of tensors, no workers": partial(
                _pass, DataLoader(tensors, options.batch, shuffle=True)
            ),
        }
        times = _timed(reads, options.rounds, options.images)
        return {
            **_report(times, options.images, "resident"),
            "the cache was made in s": round(cached.prepared, 2),
            "cache / resident": median_ratio(times["lockstep, cache"].wall, times["resident"].wall).to_json(),
            "goals": {"cache / resident": 1.1},
        }

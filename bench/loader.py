"""How fast samples come, against the fastest that they could.

    python bench/loader.py --part shards                          # a quarter of a million rows in Parquet files
    python bench/loader.py --part shards --rows 1000000 --width 3072 --kind uint8

    python bench/loader.py --part images                          # a folder of 1,000 JPEG files of 500 x 375 pixels
    python bench/loader.py --part small-images                    # 60,000 JPEG files of 32 x 32 pixels with a CSV
    python bench/loader.py --part order                           # the first batch of 10^12 samples on 10,000 ranks

``shards``: rows of Parquet files in the order of a training, against the same files read from front to back by pyarrow
into the same batches. ``bench/README.md`` says how to read it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from image_loaders import measure_images, measure_small_images
from lockstep_feed import LockstepFeed
from orders import measure_orders
from pyarrow import parquet
from timing import Arm, interleave, limited, machine, median_ratio

from lockstep.data.config import DataConfig

GOAL = 0.9
FILES = 16


def write_shards(folder: Path, options: argparse.Namespace) -> list[Path]:
    """Write rows of a vector and a label."""
    rng = np.random.default_rng(0)
    kind = np.dtype(options.kind)
    paths = []
    per_file = options.rows // FILES
    for number in range(FILES):
        drawn = rng.integers(0, 256, (per_file, options.width))
        x = pa.FixedSizeListArray.from_arrays(pa.array(drawn.reshape(-1).astype(kind)), options.width)
        table = pa.table(
            {"x": x.cast(pa.list_(x.type.value_type)), "y": pa.array(rng.integers(0, 10, per_file))}
        )
        paths.append(folder / f"{number:03}.parquet")
        parquet.write_table(table, paths[-1], row_group_size=options.group, compression=options.compression)
    return paths


def read_in_order(paths: list[Path], batch_size: int) -> int:
    """Read all files by pyarrow into batches of tensors, as a loop without any shuffling would."""
    rows = 0
    for path in paths:
        with parquet.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, use_threads=False)
                y = torch.tensor(table.column("y").to_numpy())
                flat = table.column("x").combine_chunks().flatten().to_numpy(zero_copy_only=False)
                x = torch.tensor(flat).view(len(y), -1)  # a copy: what Arrow holds cannot be written to
                for inputs, targets in zip(x.split(batch_size), y.split(batch_size), strict=True):
                    rows += len(inputs.to(torch.float32)) + 0 * len(targets)
    return rows


def _feed(folder: Path, options: argparse.Namespace, workers: int) -> LockstepFeed:
    args = {"files": "*.parquet", "input": "x", "target": "y", "window": options.window}
    return LockstepFeed(DataConfig(use="shards", args=args, batch_size=options.batch), folder, workers)


def _read(read: Callable[[], int]) -> None:
    read()


def measure_shards(options: argparse.Namespace) -> dict[str, Any]:
    """Take turns with reading in order."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_shards(folder, options)
        reads: dict[str, Callable[[], int]] = {
            "in order": partial(read_in_order, paths, options.batch),
            "in order again": partial(read_in_order, paths, options.batch),
        }
        for workers in options.workers:
            reads[f"workers {workers}"] = _feed(folder, options, workers).read_epoch
        if {read() for read in reads.values()} != {options.rows // FILES * FILES}:
            raise SystemExit("the arms do not read the same rows")
        with limited(1):
            arms = {which: Arm(partial(_read, read)) for which, read in reads.items()}
            times = interleave(arms, options.rounds, np.random.default_rng(0))
    base = times["in order"]
    return {
        "rows a second": {
            which: round(options.rows / float(np.median(one.wall))) for which, one in times.items()
        },
        "in order / it": {which: median_ratio(base.wall, one.wall).to_json() for which, one in times.items()},
        "by processor time": {
            which: median_ratio(base.cpu, one.cpu).to_json() for which, one in times.items()
        },
        "goal": GOAL,
    }


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "shards": measure_shards,
    "images": measure_images,
    "small-images": measure_small_images,
    "order": lambda _: measure_orders(),
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=list(PARTS), default="shards")
    parser.add_argument("--rows", type=int, default=2**18)
    parser.add_argument("--width", type=int, default=64, help="numbers in a row")
    parser.add_argument("--kind", default="float32", help="of the numbers: a NumPy type")
    parser.add_argument("--group", type=int, default=1024, help="rows of a row group")
    parser.add_argument("--compression", default="snappy")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--window", type=int, default=12, help="row groups in flight")
    parser.add_argument(
        "--workers", type=int, nargs="*", help="of shards: 0; of torch's loaders of images: 0 1 2 4"
    )
    parser.add_argument("--images", type=int, help="1000 of 500 x 375 pixels, 60000 of 32 x 32")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    options.workers = options.workers or ([0] if options.part == "shards" else [0, 1, 2, 4])
    options.images = options.images or (1000 if options.part == "images" else 60_000)
    report = {
        "machine": machine(torch.device("cpu")),
        "options": vars(options),
        **PARTS[options.part](options),
    }
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

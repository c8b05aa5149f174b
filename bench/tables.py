"""Start-up and memory of four processes on one table: the tutorial's `pd.read_csv` in each, and `data.use: csv`.

    python bench/tables.py                         # ten million rows of eight columns
    python bench/tables.py --rows 200000           # a quick look

Each arm starts so many processes, which open the table and read samples all over it; memory is the sum of their
proportional set sizes (PSS) when all have read, so that pages which they share count once, less that before.
`bench/README.md` says how to read it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import machine

from lockstep.data import prepare
from lockstep.data.config import DataConfig, DatasetInfo
from lockstep.data.sets import open_split

COLUMNS = 7
EVERY = 97
_PART = 100_000


def write_table(file: Path, rows: int) -> None:
    """Write ``rows`` rows of seven inputs and a target, in parts."""
    rng = np.random.default_rng(0)
    with file.open("w") as stream:
        stream.write(",".join([*(f"x{n}" for n in range(COLUMNS)), "y"]) + "\n")
        for first in range(0, rows, _PART):
            values = rng.normal(size=(min(_PART, rows - first), COLUMNS + 1))
            np.savetxt(stream, values, "%.4f", ",")


def _pss_mb() -> float:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("there is no Pss in smaps_rollup")


def _tutorial(file: Path) -> Any:
    """Read the table as the tutorial's data set does: a frame per process, and a sample by `iloc`."""
    import pandas as pd

    frame = pd.read_csv(file)
    for row in range(0, len(frame), EVERY * 100):  # `iloc` of a row takes 30 us
        torch.tensor(frame.iloc[row].to_numpy())
    return frame


def _lockstep(facts: DatasetInfo, config: DataConfig, base: Path) -> Any:
    split = open_split(facts, "train", config, base)
    (split.x[::EVERY].sum() + split.y[::EVERY].sum()).item()  # type: ignore[union-attr] - arrays
    return split


def _rank(read: Callable[[], Any], barrier: Any, answers: Any) -> None:
    barrier.wait()
    empty = _pss_mb()
    barrier.wait()
    begun = time.perf_counter()
    held = read()
    seconds = time.perf_counter() - begun
    barrier.wait()
    used = _pss_mb() - empty
    barrier.wait()
    del held
    answers.put((seconds, used))


def in_processes(read: Callable[[], Any], count: int) -> dict[str, float]:
    """Run a reader in forked processes; return the slowest one's seconds and the sum of their memory."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(count), context.Queue()
    ranks = [context.Process(target=_rank, args=(read, barrier, answers)) for _ in range(count)]
    for rank in ranks:
        rank.start()
    found = [answers.get() for _ in ranks]
    for rank in ranks:
        rank.join()
    return {"seconds": max(seconds for seconds, _ in found), "PSS MB": sum(used for _, used in found)}


def measure(folder: Path, rows: int, count: int) -> dict[str, Any]:
    """Measure both arms, and the reading of the table into the cache."""
    file = folder / "train.csv"
    write_table(file, rows)
    config = DataConfig(use="csv", batch_size=64, args={"train_csv": str(file), "target": "y"})
    begun = time.perf_counter()
    facts = prepare.prepare(config, folder)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    prepare.prepare(config, folder)
    again = time.perf_counter() - begun
    arms = {
        "lockstep": lambda: _lockstep(facts, config, folder),
        "lockstep again": lambda: _lockstep(facts, config, folder),
        "tutorial": lambda: _tutorial(file),
    }
    found: dict[str, Any] = {name: in_processes(read, count) for name, read in arms.items()}
    held = rows * (COLUMNS + 1) * 4 / 2**20
    return {
        "rows": rows,
        "processes": count,
        "columns in MB": round(held, 1),
        "read into the cache, once": round(first, 2),
        "found in the cache": round(again, 2),
        **{name: {key: round(value, 2) for key, value in arm.items()} for name, arm in found.items()},
        "memory / columns": round(found["lockstep"]["PSS MB"] / held, 2),
        "memory / tutorial": round(found["lockstep"]["PSS MB"] / found["tutorial"]["PSS MB"], 3),
        "goal": "memory / columns near 1: held once",
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--processes", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["LOCKSTEP_CACHE"] = f"{name}/cache"
        report = measure(Path(name), options.rows, options.processes)
    print(json.dumps({"machine": machine(torch.device("cpu")), **report}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""From the command to the plan of a data set of files, against another version of Lockstep.

    python bench/data.py --against OTHER/.venv/bin/launch             # a million rows, seven rounds
    python bench/data.py --against … --rows 100000 --rounds 3

Every round starts each version once, in a new random order; ratios are taken within a round, and this version is there
twice (A/A). ``bench/README.md`` says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import Arm, interleave, machine, median_ratio

GOAL = 1.1
FILES = 100
PER_FOLDER = 1000


def write_data(folder: Path, rows: int) -> None:
    """Write a CSV of ``rows`` paths and labels; the files are links to a few pictures."""
    rng = np.random.default_rng(0)
    for number in range(FILES):
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    lines = ["path,label"]
    for row in range(rows):
        inside = folder / f"d{row // PER_FOLDER}"
        if row % PER_FOLDER == 0:
            inside.mkdir()
        os.link(folder / f"{row % FILES}.png", inside / f"{row}.png")
        lines.append(f"{inside.name}/{row}.png,{('cat', 'dog', 'cow')[row % 3]}")
    (folder / "train.csv").write_text("\n".join([*lines, ""]))


def _processor_seconds() -> float:
    """Return what the children that have ended have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Bench:
    """Plans a training on one folder with several versions, each with a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.cpu: dict[str, list[float]] = {}
        """Seconds of processor time of each plan, by name."""

    def arm(self, name: str, launch: Path, *, warm: bool) -> Arm:
        """One ``launch train --dry-run``; a cold one has never seen the data, a warm one has."""
        cache = self._folder / f"cache {name}"
        command = [str(launch), "train", "csv_images", "--cpu", "1", "--dry-run", "--json"]
        command += ["data.args.root=.", "data.args.train_csv=train.csv", "data.val_size=1000"]
        environment = {**os.environ, "LOCKSTEP_CACHE": str(cache), "CUDA_VISIBLE_DEVICES": ""}

        def run() -> None:
            before = _processor_seconds()
            subprocess.run(command, cwd=self._folder, env=environment, stdout=subprocess.DEVNULL, check=True)
            self.cpu.setdefault(name, []).append(_processor_seconds() - before)

        def forget() -> None:
            shutil.rmtree(cache, ignore_errors=True)

        if warm:
            run()
            self.cpu.clear()
        return Arm(run) if warm else Arm(run, forget)


def measure(
    bench: Bench, here: Path, other: Path, rounds: int, rng: np.random.Generator, *, warm: bool
) -> dict[str, Any]:
    """Seconds of each version, and their ratio."""
    launches = {"here": here, "here again": here, "other": other}
    arms = {name: bench.arm(name, launch, warm=warm) for name, launch in launches.items()}
    wall = {name: times.wall for name, times in interleave(arms, rounds, rng).items()}
    return {
        "seconds": {name: round(float(np.median(seconds)), 2) for name, seconds in wall.items()},
        "here / other": median_ratio(wall["here"], wall["other"]).to_json(),
        "A/A": median_ratio(wall["here"], wall["here again"]).to_json(),
        "by processor time": median_ratio(bench.cpu["here"], bench.cpu["other"]).to_json(),
        "A/A by processor time": median_ratio(bench.cpu["here"], bench.cpu["here again"]).to_json(),
        "goal": GOAL,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, required=True, help="the `launch` of another version")
    parser.add_argument("--rows", type=int, default=10**6)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    here = Path(sys.executable).with_name("launch")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, options.rows)
        report = {"machine": machine(torch.device("cpu")), "rows": options.rows}
        for state, warm in (("first look", False), ("seen before", True)):
            report[state] = measure(Bench(folder), here, options.against, options.rounds, rng, warm=warm)
            print(state, json.dumps(report[state]), flush=True)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How long ``launch status`` takes: of 1,000 runs, and of a run whose record has 10^6 lines; and what help costs.

``python bench/status.py [--rounds N]`` prints medians of wall time, beside those of ``python -c 'import typer'``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS, LINES = 1000, 1_000_000
LAUNCH = [sys.executable, "-P", "-m", "lockstep"]
PAGES = (["--help"], ["--version"], ["train", "--help"], ["submit", "--help"], ["config", "show", "--help"])


def make_runs(root: Path) -> None:
    """Lay out finished trainings of a hundred steps, and one with a long record."""
    plan = {"plan": {"steps": 100, "steps_per_epoch": 50, "batch_size": 8}}
    for number in range(RUNS):
        make_run(root / f"run-{number:04}", 100, plan, {"status": "done", "exit_code": 0})
    long = {"plan": {"steps": LINES, "steps_per_epoch": LINES // 10, "batch_size": 8}}
    make_run(root / "long", LINES, long, None)


def make_run(folder: Path, steps: int, manifest: dict, outcome: dict | None) -> None:
    """Write the files that ``launch status`` reads."""
    (folder / "attempt-1").mkdir(parents=True)
    (folder / "spec.json").write_text("{}")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            row = {
                "time": float(step),
                "event": "step",
                "epoch": 0,
                "step": step,
                "train/loss": 1 / step,
                "lr": 0.1,
            }
            file.write(json.dumps(row) + "\n")
    if outcome is not None:
        (folder / "outcome.json").write_text(json.dumps(outcome))


def seconds(command: list[str], rounds: int, environment: dict[str, str]) -> float:
    """Return the median wall time of a command."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    typer = [sys.executable, "-c", "import typer"]
    base = seconds(typer, rounds, dict(os.environ))
    print(f"import typer: {base:.3f} s, again {seconds(typer, rounds, dict(os.environ)):.3f} s")
    for words in PAGES:
        took = seconds([*LAUNCH, *words], rounds, dict(os.environ))
        print(f"launch {' '.join(words)}: {took:.3f} s, {took / base:.2f} x import typer")
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder))
        environment = {**os.environ, "LOCKSTEP_RUNS": folder}
        print(f"launch status of {RUNS:,} runs: {seconds([*LAUNCH, 'status'], rounds, environment):.3f} s")
        took = seconds([*LAUNCH, "status", "long"], rounds, environment)
        print(f"launch status of a record of {LINES:,} lines: {took:.3f} s")


if __name__ == "__main__":
    main()

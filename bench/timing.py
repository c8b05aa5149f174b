"""Timing on a noisy machine: arms interleaved in random order, paired ratios, bootstrap intervals.

The same code measured first and last in one sequence differs by up to a fifth on a shared machine. So every
round runs all arms in a new random order, ratios are taken within a round, and one arm runs twice (A/A): what
the two differ by is what the machine adds.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

_RESAMPLES = 4000


@dataclass(frozen=True)
class Estimate:
    """A number and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_json(self) -> list[float]:
        """[value, low, high]."""
        return [round(number, 4) for number in (self.value, self.low, self.high)]


@dataclass(frozen=True)
class Arm:
    """Something that is timed, and what is done before each time, untimed."""

    run: Callable[[], None]
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Times:
    """Seconds of one arm, one value for each round."""

    wall: list[float]
    cpu: list[float]
    """Of this process, all threads; less than wall on one thread is time that somebody else had."""


def interleave(
    arms: Mapping[str, Arm],
    rounds: int,
    rng: np.random.Generator,
    synchronise: Callable[[], None] = lambda: None,
) -> dict[str, Times]:
    """Time every arm once a round, in another order each round.

    Args:
        arms: by name.
        rounds: how often.
        rng: of the order.
        synchronise: called before each reading of the clock, as a GPU needs it.
    """
    times = {name: Times([], []) for name in arms}
    names = list(arms)
    for _ in range(rounds):
        for name in rng.permutation(names):
            arms[name].prepare()
            synchronise()
            wall, cpu = time.perf_counter(), time.process_time()
            arms[name].run()
            synchronise()
            times[name].wall.append(time.perf_counter() - wall)
            times[name].cpu.append(time.process_time() - cpu)
    return times


def synchroniser(device: torch.device) -> Callable[[], None]:
    """Waits until the device has done what it was told; nothing on a CPU."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """So many threads for torch's kernels, within."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def median_ratio(top: Sequence[float], bottom: Sequence[float]) -> Estimate:
    """The median over rounds of top / bottom."""
    ratios = np.asarray(top) / np.asarray(bottom)
    return _bootstrap(len(ratios), lambda rows: np.median(ratios[rows], axis=-1))


def total_ratio(top: Sequence[float], bottom: Sequence[float]) -> Estimate:
    """The sum over rounds of top over that of bottom: for rounds that are parts of one whole."""
    a, b = np.asarray(top), np.asarray(bottom)
    return _bootstrap(len(a), lambda rows: a[rows].sum(-1) / b[rows].sum(-1))


def _bootstrap(count: int, statistic: Callable[[Any], Any]) -> Estimate:
    """Percentile bootstrap over rounds."""
    rows = np.random.default_rng(0).integers(0, count, (_RESAMPLES, count))
    low, high = np.quantile(statistic(rows), [0.025, 0.975])
    return Estimate(float(statistic(np.arange(count))), float(low), float(high))


def machine(device: torch.device) -> dict[str, Any]:
    """What a figure was measured on."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        names = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
        return next(names, platform.machine())

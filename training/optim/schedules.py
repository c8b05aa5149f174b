"""Learning rate schedules: functions of the step and nothing else. No torch: the command line shows their rates.

Where torch has a schedule, the rates are those of its class in ``torch.optim.lr_scheduler``; a warm-up in front is its
``LinearLR`` in a ``SequentialLR``. Steps are counted from 0, and from the end of the warm-up.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from ...data.common import TrainingError, load_callable, raised
from ..config import RunLength, ScheduleConfig

Rate = Callable[[int, float], float]
"""(step, peak) to the learning rate."""
_TIMESCALE = 10_000  # as in transformers' get_inverse_sqrt_schedule


def build_rate(config: ScheduleConfig, length: RunLength, base: Path) -> Rate:
    """Make the function that computes the rate of a step, for any peak.

    Args:
        config: the ``schedule:`` section.
        length: of the run.
        base: the folder of the config file, from which a function of the user's own is loaded.
    """
    warmup = config.warmup_steps(length)
    shape = (
        _SHAPES[config.use](config, length, warmup) if config.use in _SHAPES else _own(config, length, base)
    )
    if not warmup:
        return shape
    low = config.warmup_factor or 0.0

    def rate(step: int, peak: float) -> float:
        if step >= warmup:
            return shape(step - warmup, peak)
        return shape(0, peak) * (low + (1.0 - low) * step / warmup)

    return rate


def _constant(config: ScheduleConfig, length: RunLength, warmup: int) -> Rate:
    """Keep the peak; a plateau does so as well until it is lowered."""
    del config, length, warmup
    return lambda _, peak: peak


def _linear(config: ScheduleConfig, length: RunLength, warmup: int) -> Rate:
    """Fall in a straight line to ``min_lr``: torch's ``LinearLR``."""
    return _falling(config, length, warmup, lambda done: 1.0 - done)


def _cosine(config: ScheduleConfig, length: RunLength, warmup: int) -> Rate:
    """Fall along half a cosine to ``min_lr``: torch's ``CosineAnnealingLR``."""
    steps = max(1, length.steps - warmup)

    def rate(step: int, peak: float) -> float:  # 0.1's own order of operations: its runs keep their bits
        low = min(config.min_lr, peak)
        return low + (peak - low) * 0.5 * (1.0 + math.cos(math.pi * step / steps))

    return rate


def _polynomial(config: ScheduleConfig, length: RunLength, warmup: int) -> Rate:
    """Fall along a power of what is left to ``min_lr``: torch's ``PolynomialLR``."""
    power = config.power or 1.0
    return _falling(config, length, warmup, lambda done: (1.0 - done) ** power)


def _falling(config: ScheduleConfig, length: RunLength, warmup: int, left: Callable[[float], float]) -> Rate:
    steps = max(1, length.steps - warmup)

    def rate(step: int, peak: float) -> float:
        low = min(config.min_lr, peak)
        return low + (peak - low) * left(min(1.0, step / steps))

    return rate


def _step(config: ScheduleConfig, length: RunLength, warmup: int) -> Rate:
    """Multiply by ``factor`` after each ``every``: torch's ``StepLR``; after each step, its ``ExponentialLR``."""
    del warmup
    every = length.of(config.every) if config.every else 1
    factor = config.factor or 0.1
    return lambda step, peak: max(min(config.min_lr, peak), peak * _power(factor, step // every))


def _power(factor: float, times: int) -> float:
    try:
        return factor**times
    except OverflowError:  # a rising one, in a long run
        return math.inf


def _multi_step(config: ScheduleConfig, length: RunLength, warmup: int) -> Rate:
    """Multiply by ``factor`` at each of ``at``, which are places in the run: torch's ``MultiStepLR``."""
    places = sorted(length.of(place) for place in config.at or ())
    factor = config.factor or 0.1

    def rate(step: int, peak: float) -> float:
        return max(min(config.min_lr, peak), peak * _power(factor, bisect_right(places, step + warmup)))

    return rate


def _inverse_sqrt(config: ScheduleConfig, length: RunLength, warmup: int) -> Rate:
    """Divide by the square root of the steps: transformers' ``get_inverse_sqrt_schedule``."""
    scale = length.of(config.timescale) if config.timescale else warmup or _TIMESCALE
    return lambda step, peak: max(min(config.min_lr, peak), peak / math.sqrt((step + scale) / scale))


def _one_cycle(config: ScheduleConfig, length: RunLength, warmup: int) -> Rate:
    """Rise to the peak and fall below where it began: torch's ``OneCycleLR``, of the rate alone."""
    steps = length.steps - warmup
    rise = 0.3 * steps
    if config.rise is not None:
        rise = float(config.rise.exact_steps(length.steps_per_epoch, steps))
    start = 1.0 / (config.div_factor or 25.0)
    end = start / (config.final_div_factor or 1e4)
    marks = [(0.0, start), (rise - 1, 1.0), (float(steps - 1), end)]
    if config.three_phase:
        marks.insert(2, (2 * rise - 2, start))
    between = _line if config.anneal == "linear" else _half_cosine

    def rate(step: int, peak: float) -> float:
        for (first, before), (last, after) in pairwise(marks):
            if step <= last or last == marks[-1][0]:
                done = (step - first) / (last - first) if last > first else 1.0
                return between(peak * before, peak * after, min(1.0, done))
        raise AssertionError

    return rate


def _line(start: float, end: float, done: float) -> float:
    return (end - start) * done + start


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * done) + 1.0)


def _own(config: ScheduleConfig, length: RunLength, base: Path) -> Rate:
    """Multiply by what a user's function returns for a step of the steps after the warm-up."""
    total = length.steps - config.warmup_steps(length)
    multiple = lru_cache(maxsize=1)(own_multiple(config, base))  # of all groups, one call
    return lambda step, peak: peak * multiple(step, total)


def own_multiple(config: ScheduleConfig, base: Path) -> Callable[[int, int], float]:
    """Load a user's function ``(step, total)``, checked for numbers that are not a multiple of a rate.

    Raises:
        UsageError: there is none.
    """
    function, args = load_callable(config.use, base), config.args or {}

    def multiple(step: int, total: int) -> float:
        try:
            value = float(function(step, total, **args))
        except Exception as error:
            raise raised(f"schedule.use: {config.use}(step={step}, total={total}) failed", error) from error
        if not math.isfinite(value) or value < 0:
            raise TrainingError(
                f"schedule.use: {config.use}(step={step}, total={total}) returned {value}",
                "return the multiple of the learning rate at that step, which is 0 or more",
            )
        return value

    return multiple


_SHAPES: dict[str, Callable[[ScheduleConfig, RunLength, int], Rate]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "polynomial": _polynomial,
    "step": _step,
    "multi_step": _multi_step,
    "exponential": _step,
    "inverse_sqrt": _inverse_sqrt,
    "one_cycle": _one_cycle,
    "plateau": _constant,
}


def table_steps(config: ScheduleConfig, length: RunLength) -> list[int]:
    """Return the steps whose rates tell a schedule: the first, the one after the warm-up, the quarters, the last."""
    last = length.steps - 1
    warmup = config.warmup_steps(length)
    found = {0, last, *(length.steps * quarter // 4 for quarter in (1, 2, 3)), min(warmup, last)}
    return sorted(found)


def tabulate(
    config: ScheduleConfig, length: RunLength, base: Path, peak: float, steps: list[int] | None = None
) -> list[tuple[int, float]]:
    """Return (step, rate) of some steps; of those of ``table_steps`` where none are named."""
    rate = build_rate(config, length, base)
    return [(step, rate(step, peak)) for step in steps or table_steps(config, length)]

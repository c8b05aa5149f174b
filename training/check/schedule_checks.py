"""``launch check``: which learning rates does the run have, and are they numbers that train?"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from ...data.common import LockstepError
from ...data.order import EpochBatches
from ..config import RunConfig, RunLength, RunSpec
from ..optim import (
    LRSchedule,
    assign_parameters,
    build_optimizer,
    build_schedule,
    describe_groups,
    own_multiple,
    table_steps,
)
from .finding import Finding

_LOOKS = 1000  # at a schedule, over the whole run
_PURE = "compute it from (step, total) alone: a resumed run asks for a step without those before it"


def check_learning_rates(spec: RunSpec, model: nn.Module) -> Finding:
    """Report the learning rate of each group of parameters over the run.

    Args:
        spec: of the run, with its own batch size and length.
        model: whose parameters are grouped.
    """
    steps_per_epoch = EpochBatches(spec.facts.epoch_size, spec.config.data.batch_size).steps
    length = spec.config.train.run_length(steps_per_epoch)
    owned = assign_parameters(spec.config.optimizers, model)
    what, rows = [], list[dict[str, object]]()
    for name, part in spec.config.parts().items():
        config = part.with_directions()
        head = f"{name}: " if name else ""
        head += f"{config.optimizer.use}, {config.schedule.use}, {length.steps:,} steps"
        try:
            if wrong := _impure(config, length, spec.base):
                return Finding("learning rate", "FAIL", wrong, "", _PURE)
            optimizer = build_optimizer(config.optimizer, model, spec.base, owned[name])
            schedule = build_schedule(config.schedule, optimizer, length, spec.base)
            rates = {step: _rates_at(schedule, optimizer, step) for step in _looks(length)}
            at = sorted(
                {*table_steps(config.schedule, length), max(rates, key=lambda step: max(rates[step]))}
            )
            names = describe_groups(config.optimizer, optimizer, model, owned[name])
            rows += _rows([f"{name}: {one}" if name else one for one in names], schedule, optimizer, at)
        except LockstepError as error:
            return Finding("learning rate", "FAIL", error.message, "", error.hint)
        if wrong := _wrong(config, length, rates):
            return Finding("learning rate", "FAIL", f"{head}: {wrong}", "", "correct schedule", rows=rows)
        what.append(head)
    return Finding("learning rate", "PASS", "; ".join(what), rows=rows)


def _looks(length: RunLength) -> list[int]:
    return sorted({*range(0, length.steps, max(1, length.steps // _LOOKS)), length.steps - 1})


def _impure(config: RunConfig, length: RunLength, base: Path) -> str:
    """Say where a user's function gives another value when it is asked again, in another order."""
    if ":" not in config.schedule.use:
        return ""
    multiple, looks = own_multiple(config.schedule, base), _looks(length)
    before = [multiple(step, length.steps) for step in looks]
    again = [multiple(step, length.steps) for step in reversed(looks)][::-1]
    for step, one, other in zip(looks, before, again, strict=True):
        if one != other:
            return f"{config.schedule.use} returned {one:.6g} for step={step}, and {other:.6g} when it was asked again"
    return ""


def _wrong(config: RunConfig, length: RunLength, rates: dict[int, list[float]]) -> str:
    """Say what no run trains with; empty for rates that are in order."""
    warmup = config.schedule.warmup_steps(length)
    if warmup >= length.steps:
        return f"the warm-up of {warmup:,} steps is not over before the run is"
    for step, found in rates.items():
        if not all(math.isfinite(rate) and rate >= 0 for rate in found):
            return f"the learning rate of step {step + 1:,} is {min(found)}"
    if not any(max(found) > 0 for found in rates.values()):
        return "the learning rate is 0 from the first step to the last"
    return ""


def _rows(
    names: list[str], schedule: LRSchedule, optimizer: torch.optim.Optimizer, at: list[int]
) -> list[dict[str, object]]:
    columns = [_rates_at(schedule, optimizer, step) for step in at]
    return [
        {
            "parameters": name,
            "tensors": len(group["params"]),
            "numbers": sum(parameter.numel() for parameter in group["params"]),
            "rates": {str(step): column[number] for step, column in zip(at, columns, strict=True)},
        }
        for number, (name, group) in enumerate(zip(names, optimizer.param_groups, strict=True))
    ]


def _rates_at(schedule: LRSchedule, optimizer: torch.optim.Optimizer, step: int) -> list[float]:
    schedule.set(step)
    return [float(group["lr"]) for group in optimizer.param_groups]

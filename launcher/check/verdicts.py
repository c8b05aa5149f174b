"""Verdicts of ``launch check``: the numbers of several processes compared with those of one. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...data.config import DatasetInfo
from ...data.order import EpochBatches, micro_batch_sizes
from ...training.check import Finding
from ...training.config import CheckpointConfig, RunConfig
from .bit_comparison import BitDifference

STEPS = 6
NOTHING = "nothing"  # what is stilled of a model that draws in evaluation mode, too
CHECKPOINT = 3
KILLED_AFTER = 5
_PER_PROCESS = 8  # samples of a step: enough to differ, few enough to be quick
_TOLERANCE = {"fp64": 1e-9, "fp32": 1e-3, "auto": 1e-3}
_COARSE = 0.1  # of the half types
_SINGLE = 1e-6  # some roundings of float32, in a loss or a metric that computes in it whatever it is given
_IN_SINGLE = "a loss or metric that keeps the type it is given can be compared more closely"
_APART = "look for what depends on the other samples of a batch, on the rank, or on how many there are"
_UNKEYED = (
    "draw from torch's generators only, which are seeded by (seed, step, logical rank); let nothing depend on the rank,"
    " on how many there are, or on what was computed before; on a GPU, set train.deterministic=true"
)
_REPRODUCIBLE = (
    "keep nothing outside of parameters, buffers and torch's global generators;"
    " ask for deterministic kernels with train.deterministic=true"
)


@dataclass(frozen=True)
class ComparisonConditions:
    """Under which conditions numbers were compared."""

    processes: int
    precision: str
    """``fp64`` where the user's code allowed that, else the run's own."""
    stilled: str
    """What was switched off, such as ``without dropout``; empty for nothing."""
    cause: str
    """What an earlier check says about it, as advice."""
    bits: bool = False
    """Whether every bit has to be equal: with logical ranks."""

    @property
    def limit(self) -> float:
        """Relative difference that rounding explains."""
        return _TOLERANCE.get(self.precision, _COARSE)

    @property
    def in_words(self) -> str:
        """The conditions in words."""
        precision = "the run's precision" if self.precision == "auto" else self.precision
        return f"in {precision}" + (f", {self.stilled}" if self.stilled else "")


def shorten_config(config: RunConfig, facts: DatasetInfo, processes: int) -> RunConfig:
    """Shorten a run to a few small steps with one checkpoint between them."""
    n = facts.epoch_size
    parts = config.train.logical_ranks or processes
    size = batch_size(n, config.data.batch_size, config.data.micro_limit, parts)
    data = config.data.model_copy(update={"batch_size": size, "workers": min(2, config.data.workers)})
    train = config.train.model_copy(
        update={
            "max_steps": STEPS,
            "epochs": max(config.train.epochs, STEPS),
            "steps": None,
            "early_stop": None,
            "eval_every": None,
            "eval_batches": None,
        }
    )
    checkpoint = CheckpointConfig(every_epochs=None, every_steps=CHECKPOINT)
    return config.model_copy(update={"data": data, "train": train, "checkpoint": checkpoint})


def without_validation(facts: DatasetInfo) -> DatasetInfo:
    """Drop a validation set that takes too long; one split off a user's own set stays, as lengths are checked."""
    if facts.val is None or (facts.kind == "user" and facts.val.subset is not None):
        return facts
    return replace(facts, val=None)


def batch_size(n: int, asked: int, limit: int | None, processes: int) -> int:
    """Choose a small global batch that the processes share unequally, if possible none with a single sample."""
    least = min(asked, n, _PER_PROCESS * processes + 1)
    for size in range(least, min(asked, n, least + 4 * processes) + 1):
        if not _has_single(n, size, limit, processes):
            return size
    return least


def _has_single(n: int, size: int, limit: int | None, processes: int) -> bool:
    batches = EpochBatches(n, size)
    parts = [
        batches.shard(step, rank, processes) for step in (0, batches.steps - 1) for rank in range(processes)
    ]
    return any(1 in micro_batch_sizes(stop - start, limit) for start, stop in parts)


def judge_steps(gradient: dict[str, Any], weight: dict[str, Any], under: ComparisonConditions) -> Finding:
    """Judge N processes against one: the gradients of the first step, the weights after the last.

    Weights are judged in fp64 only: Adam makes a whole step of a gradient's rounding.
    """
    check = f"{under.processes} against 1"
    limit = f"at most {under.limit:g} is allowed"
    if not gradient["relative"] <= under.limit:
        what = f"in the first step the gradient of {_worst(gradient)} {under.in_words}; {limit}"
        return Finding(check, "FAIL", what, "", under.cause or _APART)
    if under.precision == "fp64" and not weight["relative"] <= under.limit:
        what = f"after {STEPS} steps {_worst(weight)} {under.in_words}; {limit}"
        return Finding(check, "FAIL", what, "", under.cause or _APART)
    worst = weight if under.precision == "fp64" else gradient
    compared = f"gradients and weights of {STEPS} steps" if under.precision == "fp64" else "gradients"
    most = f"at most {worst['relative']:.1e} apart ({worst['name']})" if worst["name"] else "equal to the bit"
    return Finding(check, "PASS", f"{compared} agree {under.in_words}: {most}")


def judge_bits(
    difference: BitDifference | None, modules: Mapping[str, Sequence[str]], under: ComparisonConditions
) -> Finding:
    """Judge N processes against one where logical ranks make every bit equal.

    Args:
        difference: the first one, if there is any.
        modules: of each, its words and its place in the user's code.
        under: what is known besides.
    """
    check = f"{under.processes} against 1"
    if difference is None:
        what = (
            f"samples, passes, gradients and weights of {STEPS} steps: equal to the bit, nothing switched off"
        )
        return Finding(check, "PASS", what)
    if difference.before:
        what = f"{difference.weight} differs before the first step"
        return Finding(check, "FAIL", what, "", under.cause or _UNKEYED)
    who, where = modules[difference.module] if difference.logical_rank >= 0 else ("", "")
    first, *others = filter(None, _differences(difference, who))
    more = "".join(f"; {other} differs, too" for other in others)
    what = f"in step {difference.step + 1} {first} is the first to differ{more}"
    return Finding(check, "FAIL", what, "" if difference.sample else where, under.cause or _UNKEYED)


def _differences(difference: BitDifference, who: str) -> list[str]:
    """Name what differs in the order in which a step makes it; empty for what does not."""
    return [
        difference.sample,
        f"the forward of {who} in logical rank {difference.logical_rank}" if who else "",
        difference.gradient,
        f"{difference.weight} after the step" if difference.weight and not difference.gradient else "",
    ]


def note_drawing(under: ComparisonConditions) -> Finding:
    """Say why the steps of a model that draws in both of its modes are not compared."""
    what = "the steps were not compared: the model draws in evaluation mode, too, and each process draws by itself"
    return Finding(f"{under.processes} against 1", "NOTE", what)


def _worst(parameter: dict[str, Any]) -> str:
    if math.isinf(parameter["relative"]):
        return f"{parameter['name']} exists on one side only"
    return f"{parameter['name']} differs by {parameter['difference']:.3g} ({parameter['relative']:.1e} of its largest)"


def judge_evaluation(
    one: dict[str, float], many: dict[str, float], length: int, under: ComparisonConditions
) -> Finding:
    """Judge the evaluation: every validation sample once, and the same metrics."""
    limit = 0.0 if under.bits else under.limit
    for name, value in one.items():
        if not _agree(value, many[name], limit):
            what = f"{name} is {value:.10g} with 1 process and {many[name]:.10g} with {under.processes}"
            if _agree(value, many[name], _SINGLE):
                return Finding(
                    "evaluation", "NOTE", f"{what}: no more apart than float32 rounds", "", _IN_SINGLE
                )
            return Finding("evaluation", "FAIL", what, "", under.cause or _APART)
    same = "the same metrics" + (" to the bit" if under.bits else "")
    return Finding("evaluation", "PASS", f"{many['val/count']:,} of {length:,} samples, each once; {same}")


def _agree(one: float, other: float, limit: float) -> bool:
    return (math.isnan(one) and math.isnan(other)) or abs(one - other) <= limit * max(1.0, abs(one))


def judge_resume(difference: dict[str, Any] | None, under: ComparisonConditions) -> Finding:
    """Judge a resumed run that did not end as the uninterrupted one.

    Args:
        difference: the first thing that differs in a recording, if one was found.
        under: what is known besides.
    """
    head = f"killed in step {KILLED_AFTER + 1} and resumed from step {CHECKPOINT}, it ends with other numbers"
    if difference is None:
        return Finding(
            "resume", "FAIL", f"{head}; a recording of the steps shows no cause", "", _REPRODUCIBLE
        )
    return Finding(
        "resume", "FAIL", f"{head}: {_first(difference)}", difference["where"], under.cause or _REPRODUCIBLE
    )


def _first(difference: dict[str, Any]) -> str:
    """Name what is not deterministic, by the kind of the first mark that differs."""
    in_step = f"in step {difference['step'] + 1}"
    return {
        "sample": f"the first difference is {difference['who']}, {in_step}",
        "weights": f"the weights differ before step {difference['step'] + 1}",
        "enter": f"the first difference is the forward of {difference['who']}, {in_step}",
        "leave": f"the first difference is the forward of {difference['who']}, {in_step}",
        "gradient": f"the forward is equal, the first difference is {difference['who']}, {in_step}",
    }[difference["kind"]]

"""(config, machine) to a plan, by pure functions: what ``--dry-run`` prints is what is started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...data.common import UsageError
from ...data.config import DatasetInfo
from ..machine import World, format_cpus
from .data_lines import augment_lines, data_document, data_lines, note_lines, split_lines
from .target_notes import loss_notes

if TYPE_CHECKING:  # pydantic and NumPy take 0.2 s, and `launch run` has neither a config nor data
    from ...data.order import EpochBatches
    from ...training.config import RunConfig, RunLength, ScheduleConfig


def refuse_more_processes(config: RunConfig, world: World) -> None:
    """Refuse more processes than logical ranks.

    Raises:
        UsageError: they are more.
    """
    logical = config.train.logical_ranks
    if logical and world.size > logical:
        raise UsageError(
            f"train.logical_ranks={logical}: {world.size} processes cannot share so few",
            f"use {logical} processes at most, or begin a run with more logical ranks",
        )


def refuse_not_elastic(config: RunConfig, world: World) -> None:
    """Refuse processes that ``train.elastic`` does not allow, or that could not change.

    Raises:
        UsageError: they do not, or cannot.
    """
    elastic = config.train.elastic
    if elastic is None:
        return
    if problem := elastic.problem(world.size):
        raise UsageError(problem, "choose a number within, or other bounds")
    if world.gpus or world.nodes:
        raise UsageError(
            "train.elastic: only processes on the CPUs of one machine can come and go yet",
            "use --cpu N, or leave train.elastic out and resume the run on another number of processes",
        )


@dataclass(frozen=True)
class LaunchPlan:
    """Everything that is decided before a process starts."""

    run: str
    config: RunConfig
    facts: DatasetInfo
    world: World

    def __post_init__(self) -> None:
        """Refuse more processes than there is work for.

        Raises:
            UsageError: ``train.logical_ranks`` are fewer.
        """
        refuse_more_processes(self.config, self.world)
        refuse_not_elastic(self.config, self.world)

    @property
    def batches(self) -> EpochBatches:
        """How an epoch is cut."""
        from ...data.order import EpochBatches

        return EpochBatches(
            self.facts.epoch_size, self.config.data.batch_size, self.config.train.logical_ranks
        )

    @property
    def threads(self) -> int:
        """Return how many threads a process computes on; sums on several depend on their number."""
        return 1 if self.config.train.logical_ranks and not self.world.gpus else self.world.threads

    @property
    def length(self) -> RunLength:
        """How long the whole run is."""
        return self.config.train.run_length(self.batches.steps)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.length.steps

    def shares(self, step: int) -> list[int]:
        """Return how many samples of a step each rank takes."""
        parts = [self.batches.shard(step, rank, self.world.size) for rank in range(self.world.size)]
        return [stop - start for start, stop in parts]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as ``--dry-run --json`` prints it."""
        last = self.batches.steps - 1
        return {
            "run": self.run,
            "step": ", ".join(step.use for step in self.config.steps) or None,
            "device": self.world.device,
            "processes": self.world.size,
            "data": data_document(self.facts, loss_notes(self.config.trained_loss, self.facts)),
            "nodes": list(self.world.nodes) or [self.world.processes],
            "threads": self.threads,
            "verify_every": self.config.train.verify_every if self.world.size > 1 else None,
            "cores": self.world.cores,
            "cpus": [format_cpus(cpus) for cpus in self.world.cpus],
            "gpus": list(self.world.gpus),
            "train_samples": self.facts.train.length,
            "val_samples": self.facts.val.length if self.facts.val else 0,
            "other_samples": {name: split.length for name, split in self.facts.others.items()},
            "batch_size": self.config.data.batch_size,
            "steps_per_epoch": self.batches.steps,
            "steps": self.steps,
            "shares": self.shares(0),
            "last_batch": self.batches.size(last),
            "last_shares": self.shares(last),
            "micro_batches": [
                self.batches.micro_batches(
                    self.batches.size(0), rank, self.world.size, self.config.data.micro_limit
                )
                for rank in range(self.world.size)
            ],
            "samples_per_epoch": [
                self.batches.samples_of_rank(rank, self.world.size) for rank in range(self.world.size)
            ],
        }


def plan_summary(plan: LaunchPlan) -> list[str]:
    """Return the plan in one line, and notes about it."""
    from ...training.config import model_lines

    world, config, facts = plan.world, plan.config, plan.facts
    where = f"{world.size} {'GPU' if world.gpus else 'CPU'} {_plural('process', 'es', world.size)}"
    if world.task is not None:
        where += f" on {world.machines} nodes" if world.machines > 1 else ""
    elif world.nodes:
        where += f" on {len(world.nodes)} nodes ({_join(list(world.nodes))})"
    elif not world.gpus:
        where += f" on {world.cores} {_plural('core', 's', world.cores)}"
    val = f" + {facts.val.length:,}" if facts.val else ""
    batch = f"batch {plan.batches.size(0)} = {_shares(plan)}"
    data = f"{facts.name} {facts.train.length:,}{val}"
    lines = [f"{plan.run}: {where}, {data}, {batch}, {plan.batches.steps:,} steps/epoch"]
    lines += _batch_lines(config)
    lines += [*data_lines(facts), *augment_lines(config.data.augment)]
    lines += model_lines(config.model, compiled=config.train.compile, strategy=config.train.strategy)
    lines += split_lines(facts)
    lines += hook_lines(config)
    if (elastic := config.train.elastic) is not None:
        lines.append(
            f"`launch scale {plan.run} N` changes the processes, {elastic.min} to {elastic.max}, as it trains"
        )
    lines += note_lines(loss_notes(config.trained_loss, facts))
    lines += _schedule_notes(config.schedule, plan.length)
    if world.cores_why:
        lines.append(f"note: {world.cores_why}")
    if world.processes > world.cores:
        lines.append(f"note: {world.processes} processes share {world.cores} cores")
    if 0 in plan.shares(0):
        idle = plan.shares(0).count(0)
        lines.append(
            f"note: a batch of {config.data.batch_size} leaves {idle} of {world.size} processes idle"
        )
    return lines


def _batch_lines(config: RunConfig) -> list[str]:
    """Say what is done with a batch, as far as it is not the usual."""
    lines = []
    if config.steps:
        lines.append(f"step: {_turns(config)}")
    if config.data.max_micro_batch == "auto":
        lines.append(
            "data.max_micro_batch=auto: halved where memory runs out, the ranks then start again in place"
        )
    if config.data.target is not None:
        lines.append(
            f"a batch is a dict: {config.data.target} is the target, the model gets the others by name"
        )
    if (fold := config.data.fold) is not None:
        lines.append(f"fold {fold.index} of {fold.k} is validated on, the others are trained on")
    if (pad := config.data.pad) is not None:
        to = "the longest of the global batch" if pad.to == "longest" else f"a length of {pad.to}"
        lines.append(f"sequences are padded to {to}")
    return lines


def hook_lines(config: RunConfig) -> list[str]:
    """Return which functions are called during the run, in one line; none where there are no hooks."""
    if config.hooks is None:
        return []
    named = config.hooks.named
    return [
        f"hooks: {', '.join(use if point == 'file' else f'{point} {use}' for point, use in named.items())}"
    ]


def _turns(config: RunConfig) -> str:
    """Say which steps compute the loss, and whose optimizer each is."""
    if not isinstance(config.step, tuple):
        together = f"; {_join_words(list(config.optimizers))} step together" if config.optimizers else ""
        return f"{config.steps[0].use} computes the loss{together}"
    parts = []
    for step in config.steps:
        every = f", in every {step.every} steps" if step.every > 1 else ""
        parts.append(f"{step.use} for {step.optimizer or 'all'}{every}")
    return f"{', then '.join(parts)}, on the same batch"


def _join_words(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _plural(word: str, ending: str, count: int) -> str:
    return word + ending * (count != 1)


def _shares(plan: LaunchPlan) -> str:
    """Say how the first batch is cut."""
    logical = plan.config.train.logical_ranks
    if logical is None:
        return _join(plan.shares(0))
    parts = [end - begin for _, begin, end in plan.batches.parts(plan.batches.size(0), 0, 1)]
    even = f"{logical} logical x {parts[0]}" if len({*parts}) == 1 else f"{logical} logical: {_join(parts)}"
    return f"{even}, on {plan.world.size} {_plural('process', 'es', plan.world.size)}"


def _join(shares: list[int]) -> str:
    """Format shares as ``16 + 16``, or as ``64 x 16 + 3 x 15`` where they are many."""
    if len(shares) <= 4:  # noqa: PLR2004 - as many as are read at a glance
        return " + ".join(map(str, shares))
    return " + ".join(f"{shares.count(size)} x {size}" for size in sorted(set(shares), reverse=True))


def plan_table(plan: LaunchPlan) -> list[str]:
    """Return the whole plan, for ``--dry-run``."""
    document = plan.to_json()
    rows = [
        f"{'rank':>4}  {'device':<8}  {'per step':>8}  {'micro-batches':<20}  {'last step':>9}  {'per epoch':>10}"
    ]
    for rank in range(plan.world.size):
        here = 0 <= rank - plan.world.first < plan.world.processes
        device = (
            f"gpu {plan.world.gpus[rank - plan.world.first]}"
            if plan.world.gpus and here
            else plan.world.device
        )
        micro = " + ".join(map(str, document["micro_batches"][rank])) or "idle"
        rows.append(
            f"{rank:>4}  {device:<8}  {document['shares'][rank]:>8}  {micro:<20}"
            f"  {document['last_shares'][rank]:>9}  {document['samples_per_epoch'][rank]:>10,}"
        )
    rows.append(
        f"{_length(plan.config, plan.length)};"
        f" the last batch of an epoch has {document['last_batch']} samples"
    )
    return [*rows, *_evaluation(plan), *_comparison(plan), _threads(plan)]


def _comparison(plan: LaunchPlan) -> list[str]:
    """Say how often ranks are compared, where that is asked for."""
    train = plan.config.train
    if train.verify_every is None:
        return []
    if plan.world.size == 1:
        return ["note: train.verify_every: one process has no other to be compared with"]
    what = "weights, buffers and optimizer" if train.logical_ranks else "weights and optimizer"
    when = f"every {train.verify_every:,} steps and before each checkpoint"
    return [f"{what} are compared over {plan.world.size} ranks {when}"]


def _threads(plan: LaunchPlan) -> str:
    world, threads = plan.world, plan.threads
    each = f"{threads} {_plural('thread', 's', threads)} per process"
    near = "; CPUs " + " | ".join(format_cpus(cpus) for cpus in world.cpus) if world.cpus else ""
    return f"{each}, of {world.cores} {_plural('core', 's', world.cores)}{near}"


def _schedule_notes(config: ScheduleConfig, length: RunLength) -> list[str]:
    """Say what of a schedule does not fit the run."""
    warmup = config.warmup_steps(length)
    if not warmup or warmup < length.steps:
        return []
    return [
        f"note: the warm-up of {warmup:,} steps is not over at the end of the run, after {length.steps:,} steps"
    ]


def _length(config: RunConfig, length: RunLength) -> str:
    """Say how many steps the run has, and why."""
    each, steps = length.steps_per_epoch, length.steps
    if config.train.steps:
        return f"{steps:,} steps = {steps / each:.4g} epochs of {each:,} steps"
    return f"{config.train.epochs} epochs x {each:,} steps = {steps:,} steps"


def _evaluation(plan: LaunchPlan) -> list[str]:
    """Say when the run is evaluated and on what, where it is not each epoch and the whole validation set."""
    train, val = plan.config.train, plan.facts.val
    if val is None or (train.eval_every is None and train.eval_batches is None):
        return []
    when = "1 epoch" if train.eval_every is None else str(train.eval_every)
    samples = val.length
    if train.eval_batches is not None:
        samples = min(samples, train.eval_batches * plan.config.data.batch_size)
    return [f"evaluation every {when} and at the end, on {samples:,} of {val.length:,} samples"]

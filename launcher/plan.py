"""(config, machine) to a plan, by pure functions: what ``--dry-run`` prints is what is started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..data.errors import MachineError, UsageError
from ..data.facts import DataFacts
from .machine import Machine

if TYPE_CHECKING:  # pydantic and NumPy take 0.2 s, and `launch run` has neither a config nor data
    from ..data.order import Batches
    from ..training.spec import RunConfig


@dataclass(frozen=True)
class World:
    """The processes of a run on one machine."""

    device: Literal["cpu", "gpu"]
    processes: int
    threads: int
    """Per process."""
    gpus: tuple[str, ...]
    """One for each process, as CUDA_VISIBLE_DEVICES names it; empty on the CPU."""
    cores: int


def choose_world(machine: Machine, gpus: str | None, cpu: int | None) -> World:
    """The processes that were asked for, or an error; never silently fewer.

    Args:
        machine: what there is.
        gpus: ``N``, ``all`` or a list such as ``0,2``.
        cpu: number of CPU processes. With neither: every visible GPU, else one CPU process.

    Raises:
        UsageError: the request makes no sense.
        MachineError: the machine has no such GPUs.
    """
    if gpus is not None and cpu is not None:
        raise UsageError("--gpus and --cpu exclude each other", "give one of them")
    if cpu is not None and cpu < 1:
        raise UsageError(f"--cpu {cpu}: at least one process is needed", "use --cpu 1 or more")
    chosen = (
        () if cpu is not None else _choose_gpus(machine, "all" if gpus is None and machine.gpus else gpus)
    )
    processes = cpu or len(chosen) or 1
    return World(
        device="gpu" if chosen else "cpu",
        processes=processes,
        threads=max(1, machine.cores // processes),
        gpus=chosen,
        cores=machine.cores,
    )


def _choose_gpus(machine: Machine, asked: str | None) -> tuple[str, ...]:
    if asked is None:
        return ()
    if asked == "all":
        return _first_gpus(machine, len(machine.gpus) or 1, asked)
    if _is_number(asked):
        if int(asked) == 0:
            raise UsageError(
                "--gpus 0: at least one GPU is needed", "use --cpu N, or `--gpus 0,` for the GPU numbered 0"
            )
        return _first_gpus(machine, int(asked), asked)
    names = tuple(part.strip() for part in asked.split(",") if part.strip())
    if not names or not all(_is_number(name) for name in names):
        raise UsageError(
            f"--gpus {asked}: not a number of GPUs, `all` or a list such as 0,2", "use one of these"
        )
    if len({int(name) for name in names}) < len(names):
        raise UsageError(
            f"--gpus {asked}: a GPU is listed twice", "list each GPU once: one process runs on each"
        )
    return tuple(
        _first_gpus(machine, max(int(name) for name in names) + 1, asked)[int(name)] for name in names
    )


def _is_number(text: str) -> bool:
    """Whether ``int`` takes it: a superscript is a digit, too."""
    return text.isascii() and text.isdigit()


def _first_gpus(machine: Machine, count: int, asked: str) -> tuple[str, ...]:
    if count > len(machine.gpus):
        there = "no GPU" if not machine.gpus else f"{len(machine.gpus)} GPU" + "s" * (len(machine.gpus) > 1)
        raise MachineError(
            f"--gpus {asked}: this machine has {there} that CUDA programs can see",
            "ask for fewer, or train on the processor with --cpu N",
        )
    return machine.gpus[:count]


@dataclass(frozen=True)
class LaunchPlan:
    """Everything that is decided before a process starts."""

    run: str
    config: RunConfig
    facts: DataFacts
    world: World

    @property
    def batches(self) -> Batches:
        """How an epoch is cut."""
        from ..data.order import Batches

        return Batches(self.facts.train.length, self.config.data.batch_size)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        steps = self.batches.steps * self.config.train.epochs
        return min(steps, self.config.train.max_steps or steps)

    def shares(self, step: int) -> list[int]:
        """Samples of a step for each rank."""
        parts = [self.batches.shard(step, rank, self.world.processes) for rank in range(self.world.processes)]
        return [stop - start for start, stop in parts]

    def to_json(self) -> dict[str, Any]:
        """The plan as ``--dry-run --json`` prints it."""
        from ..data.order import micro_sizes

        last = self.batches.steps - 1
        return {
            "run": self.run,
            "device": self.world.device,
            "processes": self.world.processes,
            "threads": self.world.threads,
            "gpus": list(self.world.gpus),
            "train_samples": self.facts.train.length,
            "val_samples": self.facts.val.length if self.facts.val else 0,
            "batch_size": self.config.data.batch_size,
            "steps_per_epoch": self.batches.steps,
            "steps": self.steps,
            "shares": self.shares(0),
            "last_batch": self.batches.size(last),
            "last_shares": self.shares(last),
            "micro_batches": [
                micro_sizes(share, self.config.data.max_micro_batch) for share in self.shares(0)
            ],
            "samples_per_epoch": [
                self.batches.rank_samples(rank, self.world.processes) for rank in range(self.world.processes)
            ],
        }


def summary(plan: LaunchPlan) -> list[str]:
    """The plan line and what people should know about it."""
    world, config, facts = plan.world, plan.config, plan.facts
    where = f"{world.processes} {'GPU' if world.gpus else 'CPU'} {_plural('process', 'es', world.processes)}"
    if not world.gpus:
        where += f" on {world.cores} {_plural('core', 's', world.cores)}"
    val = f" + {facts.val.length:,}" if facts.val else ""
    batch = f"batch {plan.batches.size(0)} = {_join(plan.shares(0))}"
    data = f"{facts.name} {facts.train.length:,}{val}"
    lines = [f"{plan.run}: {where}, {data}, {batch}, {plan.batches.steps:,} steps/epoch"]
    if world.processes > world.cores:
        lines.append(f"note: {world.processes} processes share {world.cores} cores")
    if 0 in plan.shares(0):
        idle = plan.shares(0).count(0)
        lines.append(
            f"note: a batch of {config.data.batch_size} leaves {idle} of {world.processes} processes idle"
        )
    return lines


def _plural(word: str, ending: str, count: int) -> str:
    return word + ending * (count != 1)


def _join(shares: list[int]) -> str:
    """``16 + 16``, or ``64 x 16 + 3 x 15`` where they are many."""
    if len(shares) <= 4:  # noqa: PLR2004 - as many as are read at a glance
        return " + ".join(map(str, shares))
    return " + ".join(f"{shares.count(size)} x {size}" for size in sorted(set(shares), reverse=True))


def table(plan: LaunchPlan) -> list[str]:
    """The plan in full, for ``--dry-run``."""
    document = plan.to_json()
    rows = [
        f"{'rank':>4}  {'device':<8}  {'per step':>8}  {'micro-batches':<20}  {'last step':>9}  {'per epoch':>10}"
    ]
    for rank in range(plan.world.processes):
        device = f"gpu {plan.world.gpus[rank]}" if plan.world.gpus else "cpu"
        micro = " + ".join(map(str, document["micro_batches"][rank])) or "idle"
        rows.append(
            f"{rank:>4}  {device:<8}  {document['shares'][rank]:>8}  {micro:<20}"
            f"  {document['last_shares'][rank]:>9}  {document['samples_per_epoch'][rank]:>10,}"
        )
    rows.append(
        f"{plan.config.train.epochs} epochs x {plan.batches.steps:,} steps = {plan.steps:,} steps;"
        f" the last batch of an epoch has {document['last_batch']} samples"
    )
    return rows

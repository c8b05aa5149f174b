"""What a run is besides its tensors: a handful of integers, its accounts, and the proof that it may be resumed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import torch

from ...data.common import UsageError
from ...data.order import ALGORITHM
from ..components import EarlyStopping, batch_norm
from ..config import describe_differences, identity_settings, identity_sha256
from ..rank import Group, WorldChange
from ..session import Account, SampleAudit, StepResult, Training
from ..tensors import each_whole, find_renaming, is_fsdp, plain_state, renamed, split_rows, whole_tensors
from ..tracking import plain
from . import rank_buffers
from .model_weights import load_weights
from .non_finite import refuse_non_finite
from .retention import BestCheckpoints
from .storage import CheckpointContents, StoredCheckpoint, Tensors, hashed_bytes, read_all

STATE_VERSION = 2


class Writer(Protocol):
    """A writer of checkpoints."""

    @property
    def is_shared(self) -> bool:
        """Say whether every rank writes."""

    def write(self, snapshot: CheckpointContents, best: set[int]) -> None:
        """Start writing; returns as soon as the tensors may change again."""


@dataclass
class Progress:
    """The progress of a run, and what has been measured."""

    epoch: int = 0
    epoch_step: int = 0
    """Steps done in the epoch; less than it has, except before its evaluation."""
    step: int = 0
    """Optimizer steps done in the run."""
    loss: float = 0.0
    """Sum over the samples of the epoch so far, as far as it has been read."""
    weight: float = 0.0
    terms: dict[str, list[float]] = field(default_factory=dict)
    """The same of what the step returns besides the loss: [sum, weight] by name."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last epoch."""
    pending: bool = False
    """Whether the evaluation that follows these steps is still to be done: a stop came in between."""
    patience: EarlyStopping = field(default_factory=EarlyStopping)
    ranking: BestCheckpoints = field(default_factory=BestCheckpoints)

    @property
    def means(self) -> dict[str, float]:
        """Return the loss per sample and each of the terms per its own weight, under their names in the record."""
        pairs = {"loss": (self.loss, self.weight), **self.terms}
        return {
            f"train/{name}": value / weight if weight else float("nan")
            for name, (value, weight) in pairs.items()
        }

    def add_terms(self, terms: Mapping[str, tuple[float, float]]) -> None:
        """Add sums and weights of a part of the epoch."""
        for name, pair in terms.items():
            before = self.terms.get(name, [0.0, 0.0])
            self.terms[name] = [old + new for old, new in zip(before, pair, strict=True)]


@dataclass(frozen=True)
class ResumedState:
    """The state that a checkpoint brings besides tensors."""

    progress: Progress
    account: Account
    meter: dict[str, Any]
    notes: list[str]
    """Why the continuation cannot be equal to the bit; empty where it is."""
    hooks: dict[str, Any] | None = None
    """What the hooks of each rank had returned; None where there were none."""
    hook_tensors: Tensors = field(default_factory=dict)
    """The tensors of it."""
    last_checkpoint: int | None = None
    """Step of the last one; None for none, or where an evaluation is still to come before it."""
    joined: bool = False
    """Whether other ranks are in the middle of the run, which this one has joined."""


@dataclass(frozen=True)
class StepsDone:
    """The steps that a rank has done, as far as others have to know of them."""

    progress: Progress
    """Of the run, as it goes on."""
    audit: SampleAudit
    audited: int
    """Steps of the epoch that are settled."""
    last: StepResult | None
    """Of the last step."""


class NextWorld(Protocol):
    """The way of a rank from one world to the next."""

    def change_due(self, step: int) -> WorldChange | None:
        """Return the change that all ranks make after this many steps; None where there is none."""

    def go_over(self, change: WorldChange, state: Mapping[str, Any] | None) -> ResumedState | None:
        """Go over to the next world; None where this process is not a member any more. Collective in both."""

    def rescue_after(self, error: RuntimeError) -> WorldChange | None:
        """Return to where a step has begun that has failed because a rank has died; the change that leaves it out."""

    def rescue(self, change: WorldChange, done: StepsDone, count: Callable[[StepResult], None]) -> None:
        """Meet those that are left, and catch up with them. Collective.

        Args:
            change: that leaves out who has died.
            done: by this rank.
            count: counts the step that this rank could not finish, where others have.
        """


def build_state(
    training: Training,
    progress: Progress,
    account: Account,
    meter: dict[str, Any],
    hooks: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Build ``state.json``; ``hooks`` is what they have returned, under its key."""
    session = training.session
    scaler = training.stepper.scaler
    return {
        "schema_version": STATE_VERSION,
        "run": session.spec.run,
        "run_id": session.spec.wandb_id,
        "algorithm": ALGORITHM,
        "seed": session.spec.config.train.seed,
        "epoch": progress.epoch,
        "epoch_step": progress.epoch_step,
        "step": progress.step,
        "loss": progress.loss,
        "weight": progress.weight,
        **({"terms": progress.terms} if progress.terms else {}),
        "meter": meter,
        "metrics": {key: plain(value) for key, value in progress.metrics.items()},
        "pending": progress.pending,
        "patience": asdict(progress.patience),
        "ranking": asdict(progress.ranking),
        "samples": session.batches.n,
        "batch_size": session.batches.batch_size,
        "schedule": training.schedule.state(),
        "scaler": None if scaler is None else scaler.state_dict(),
        **({"optimizer": rest} if (rest := training.optimizer_state.save()[1]) else {}),
        "order_sha256": account.order_sha256,
        "consumed_digest": f"{account.consumed_digest:032x}",
        "ranks": account.ranks,
        "data_fingerprint": session.spec.facts.fingerprint,
        **({"frozen": session.frozen_sha256} if session.frozen else {}),
        "config": identity_settings(session.spec.config),
        "config_sha256": identity_sha256(session.spec.config),
        **_numerical_environment(training),
        **(hooks or {}),
    }


def _numerical_environment(training: Training) -> dict[str, Any]:
    """Return what the last bits of a sum depend on."""
    session = training.session
    return {
        "world_size": session.group.world_size,
        "max_micro_batch": session.spec.config.data.micro_limit,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "device": session.group.device.type,
        "precision": session.numerics.name,
        "compile": session.spec.config.train.compile,
        "channels_last": session.spec.config.model.channels_last,
    }


def restore(training: Training, snapshot: StoredCheckpoint) -> ResumedState:
    """Put a checkpoint's tensors into the model and the optimizer; return the rest.

    Raises:
        UsageError: it belongs to other data, another model or another order.
    """
    state = snapshot.state
    _refuse_incompatible(training, state)
    model = training.session.model
    renaming = find_renaming(snapshot.model, plain_state(model))
    load_weights(model, snapshot.model, "the checkpoint")
    buffers = renamed(read_all(snapshot.rank_buffers), renaming)
    lost = rank_buffers.restore(model, buffers, training.session.group)
    training.optimizer_state.load(renamed(snapshot.optimizer, renaming), state.get("optimizer", {}), renaming)
    training.ema.load(renamed(snapshot.ema, renaming))
    training.schedule.load(state.get("schedule"))
    if training.stepper.scaler is not None and state["scaler"] is not None:
        training.stepper.scaler.load_state_dict(state["scaler"])
    _reuse_threads(training, state)
    notes = [*_notes(training, state), *map(_lost, lost)]
    return resumed_state(state, notes, read_all(snapshot.hooks))


def resumed_state(state: dict[str, Any], notes: list[str], hook_tensors: Tensors) -> ResumedState:
    """Read what ``build_state`` has built, besides what belongs to tensors.

    Args:
        state: as a checkpoint has it.
        notes: for users.
        hook_tensors: of what hooks had returned.
    """
    progress = Progress(
        epoch=state["epoch"],
        epoch_step=state["epoch_step"],
        step=state["step"],
        loss=state["loss"],
        weight=state["weight"],
        terms=state.get("terms", {}),
        metrics=state["metrics"],
        pending=state["pending"],
        patience=EarlyStopping(**state["patience"]),
        ranking=BestCheckpoints(**state["ranking"]),
    )
    account = Account(state["order_sha256"], int(state["consumed_digest"], 16), list(state["ranks"]))
    own = None if progress.pending else progress.step
    last = state.get("last_checkpoint", own)  # which those tell who are ahead of the last one
    return ResumedState(progress, account, state["meter"], notes, state.get("hooks"), hook_tensors, last)


def _reuse_threads(training: Training, state: dict[str, Any]) -> None:
    """Use as many threads as before, up to the number of cores: the last bits of a sum depend on them."""
    group = training.session.group
    same = state["world_size"] == group.world_size and group.device.type == "cpu"
    if same and state["threads"] <= len(os.sched_getaffinity(0)):
        torch.set_num_threads(state["threads"])


def _refuse_incompatible(training: Training, state: dict[str, Any]) -> None:
    session = training.session
    if state.get("schema_version") != STATE_VERSION:
        raise UsageError(
            f"the checkpoint's state has version {state.get('schema_version')}, this Lockstep reads {STATE_VERSION}",
            "use the Lockstep that wrote it, or start a new run from its weights with model.weights",
        )
    here = {
        "algorithm": ALGORITHM,
        "samples": session.batches.n,
        "data_fingerprint": session.spec.facts.fingerprint,
        "precision": session.numerics.name,
        **{f"weights of model.frozen.{name}": sha for name, sha in session.frozen_sha256.items()},
        **identity_settings(session.spec.config),
    }
    frozen = {f"weights of model.frozen.{name}": sha for name, sha in state.get("frozen", {}).items()}
    there = {key: state[key] for key in ("algorithm", "samples", "data_fingerprint", "precision")}
    if rows := describe_differences({**there, **frozen, **state["config"]}, here):
        raise UsageError(
            "the checkpoint cannot be continued:\n" + "\n".join(rows),
            "resume with the data and settings it was written with, or start a new run",
        )


def _lost(name: str) -> str:
    return f"the buffer {name} was each rank's own: from here on all have rank 0's, and results differ"


def _notes(training: Training, state: dict[str, Any]) -> list[str]:
    here = _numerical_environment(training)
    state = {"compile": False, "channels_last": False, **state}  # older ones do not hold it
    any_world = training.session.spec.config.train.logical_ranks is not None
    notes = [
        f"{key} was {state[key]} and is {value}: the last bits may differ"
        for key, value in here.items()
        if state[key] != value and not (any_world and key == "world_size")
    ]
    what = training.depends_on_world
    # Of another cut, samples meet others in a batch norm, and what is drawn for one is drawn for another.
    cut_alike = all(state[key] == here[key] for key in ("world_size", "max_micro_batch"))
    if what and not cut_alike:
        notes.append(
            f"the model has {' and '.join(what)}: from here on its results differ, not only in the last bits"
        )
    return notes


def writing_ranks(training: Training) -> Group | None:
    """Return the ranks that write a checkpoint together, with a channel for that; None where rank 0 writes it.

    Collective.
    """
    session = training.session
    is_cut = is_fsdp(training.stepper.model) and not session.spec.config.checkpoint.whole
    return session.group.beside() if is_cut else None


def checkpoint_tensors(training: Training, step: int, *, sharded: bool) -> CheckpointContents:
    """Return what this rank writes of the model, the optimizer and the averages; the state is still to come.

    Collective under FSDP.

    Args:
        training: to be saved.
        step: of the run: how many it has taken.
        sharded: each rank writes its own rows of what is cut; else rank 0 writes all of it, gathered.
    """
    keep = training.session.group.rank == 0
    if not keep and not is_fsdp(training.stepper.model):
        return CheckpointContents({}, {}, {"step": step})
    parts = training_tensors(training)
    if not sharded:
        whole = {stem: whole_tensors(part, keep=keep) for stem, part in parts.items()}
        return CheckpointContents(**whole, state={"step": step})
    alike: dict[str, Tensors] = {}
    shard: Tensors = {}
    for stem, part in parts.items():
        same, cut = split_rows(part)
        alike[stem] = same if keep else {}
        shard |= {f"{stem}/{name}": rows for name, rows in cut.items()}
    return CheckpointContents(**alike, state={"step": step}, shard=shard)


def training_tensors(training: Training) -> dict[str, Tensors]:
    """Return all tensors of a checkpoint, by part and name."""
    return {
        "model": model_tensors(training),
        "optimizer": optimizer_tensors(training),
        "ema": training.ema.tensors(),
    }


def training_hashes(training: Training) -> dict[str, str]:
    """Hash the model, and all that goes on with it, on rank 0. Collective under FSDP; one tensor at a time is whole."""
    session = training.session
    with batch_norm.averaged(session.model, session.buffer_group):
        return _hashes(training)


def _hashes(training: Training) -> dict[str, str]:
    weights, state = hashlib.sha256(), hashlib.sha256()
    if training.session.group.rank == 0 or is_fsdp(training.stepper.model):
        parts = training_tensors(training)
        averages = {f"{name}/ema": tensor for name, tensor in parts["ema"].items()}
        for name, tensor in each_whole({**parts["model"], **parts["optimizer"], **averages}):
            if training.session.group.rank == 0:
                for content in hashed_bytes(name, tensor):
                    state.update(content)
                    weights.update(content if name in parts["model"] else b"")
    return {"weights_sha256": weights.hexdigest(), "state_sha256": state.hexdigest()}


def model_tensors(training: Training) -> Tensors:
    """Return parameters and buffers by name."""
    return plain_state(training.session.model)


def optimizer_tensors(training: Training) -> Tensors:
    """Return the optimizer's tensors, mostly as ``parameter/key``; ``state.json`` has the rest of it."""
    return training.optimizer_state.save()[0]


def save(
    training: Training,
    step: int,
    writer: Writer,
    best: set[int],
    state: Callable[[], dict[str, Any]],
    hook_tensors: Tensors,
) -> None:
    """Have a checkpoint written. Collective.

    Args:
        training: to be saved.
        step: of the run: how many it has taken.
        writer: writes it.
        best: steps whose checkpoints stay when older ones go.
        state: builds the state, on rank 0.
        hook_tensors: of what hooks have returned.

    Raises:
        TrainingError: a weight is not a number.
    """
    session = training.session
    refuse_non_finite(session, step)
    gathered_buffers = rank_buffers.gathered(session.model, session.buffer_group)
    with batch_norm.averaged(session.model, session.buffer_group):
        snapshot = checkpoint_tensors(training, step, sharded=writer.is_shared)
        if session.group.rank == 0:
            snapshot = replace(snapshot, state=state(), rank_buffers=gathered_buffers, hooks=hook_tensors)
        if session.group.rank == 0 or writer.is_shared:
            writer.write(snapshot, best)

"""What a run is besides its tensors: a handful of integers, its accounts, and the proof that it may go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ..data.errors import UsageError
from ..data.order import ALGORITHM
from .checkpoint import Snapshot, Tensors
from .events import plain
from .ledger import Account
from .session import Training

STATE_VERSION = 1


@dataclass
class Progress:
    """Where a run stands, and what has been measured."""

    epoch: int = 0
    epoch_step: int = 0
    """Steps done in the epoch; less than it has, except between two of them."""
    step: int = 0
    """Optimizer steps done in the run."""
    loss: float = 0.0
    """Sum over the samples of the epoch so far, as far as it has been read."""
    weight: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last epoch."""

    @property
    def mean_loss(self) -> float:
        """Per sample, over the epoch so far."""
        return self.loss / self.weight if self.weight else float("nan")


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint brings besides tensors."""

    progress: Progress
    account: Account
    meter: dict[str, Any]
    notes: list[str]
    """Why the continuation cannot be equal to the bit; empty where it is."""


def describe(
    training: Training, progress: Progress, account: Account, meter: dict[str, Any]
) -> dict[str, Any]:
    """``state.json``."""
    session = training.session
    scaler = training.stepper.scaler
    return {
        "schema_version": STATE_VERSION,
        "run": session.spec.run,
        "algorithm": ALGORITHM,
        "seed": session.spec.config.train.seed,
        "epoch": progress.epoch,
        "epoch_step": progress.epoch_step,
        "step": progress.step,
        "loss": progress.loss,
        "weight": progress.weight,
        "meter": meter,
        "metrics": {key: plain(value) for key, value in progress.metrics.items()},
        "samples": session.batches.n,
        "batch_size": session.batches.batch_size,
        "scaler": None if scaler is None else scaler.state_dict(),
        "order_sha256": account.order_sha256,
        "consumed_digest": f"{account.consumed_digest:032x}",
        "ranks": account.ranks,
        "data_fingerprint": session.spec.facts.fingerprint,
        **_circumstances(training),
    }


def _circumstances(training: Training) -> dict[str, Any]:
    """What the last bits of a sum depend on."""
    session = training.session
    return {
        "world_size": session.group.world_size,
        "max_micro_batch": session.spec.config.data.max_micro_batch,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "device": session.group.device.type,
        "precision": session.numerics.name,
    }


def restore(training: Training, snapshot: Snapshot) -> Resumed:
    """Put a checkpoint's tensors into the model and the optimizer; what remains is returned.

    Raises:
        UsageError: it belongs to other data, another model or another order.
    """
    state = snapshot.state
    _refuse_foreign(training, state)
    _load_model(training, snapshot)
    _load_optimizer(training, snapshot.optimizer)
    if training.stepper.scaler is not None and state["scaler"] is not None:
        training.stepper.scaler.load_state_dict(state["scaler"])
    progress = Progress(
        epoch=state["epoch"],
        epoch_step=state["epoch_step"],
        step=state["step"],
        loss=state["loss"],
        weight=state["weight"],
        metrics=state["metrics"],
    )
    account = Account(state["order_sha256"], int(state["consumed_digest"], 16), list(state["ranks"]))
    return Resumed(progress, account, state["meter"], _notes(training, state))


def _refuse_foreign(training: Training, state: dict[str, Any]) -> None:
    session = training.session
    here = {
        "algorithm": ALGORITHM,
        "seed": session.spec.config.train.seed,
        "samples": session.batches.n,
        "batch_size": session.batches.batch_size,
        "data_fingerprint": session.spec.facts.fingerprint,
        "precision": session.numerics.name,
    }
    differing = [
        f"{key}: {state[key]} in the checkpoint, {value} here"
        for key, value in here.items()
        if state[key] != value
    ]
    if differing:
        raise UsageError(
            "the checkpoint cannot be continued:\n" + "\n".join(differing),
            "resume with the data and settings it was written with, or start a new run",
        )


def _load_model(training: Training, snapshot: Snapshot) -> None:
    session = training.session
    model = session.model
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    saved = {name: tuple(tensor.shape) for name, tensor in snapshot.model.items()}
    if own != saved:
        names = sorted(name for name in own.keys() | saved.keys() if own.get(name) != saved.get(name))
        rows = [
            f"{name}: {saved.get(name, 'absent')} in the checkpoint, {own.get(name, 'absent')} here"
            for name in names[:8]
        ]
        raise UsageError(
            "the checkpoint is of another model:\n" + "\n".join(rows),
            "resume with the model it was written with",
        )
    model.load_state_dict(snapshot.model)
    for name, rows_of_ranks in snapshot.rank_buffers.items():
        if len(rows_of_ranks) == session.group.world_size:  # else the average, which the model's tensors are
            model.get_buffer(name).copy_(rows_of_ranks[session.group.rank])


def _load_optimizer(training: Training, saved: Tensors) -> None:
    """The optimizer's own state, made afresh from ``parameter/key``."""
    parameters = {
        training.names[id(p)]: p for group in training.optimizer.param_groups for p in group["params"]
    }
    for key, value in saved.items():
        name, _, entry = key.rpartition("/")
        parameter = parameters[name]
        # A step count stays where a fused optimizer keeps it: with its parameter.
        training.optimizer.state[parameter][entry] = value.to(parameter.device, copy=True)


def _notes(training: Training, state: dict[str, Any]) -> list[str]:
    return [
        f"{key} was {state[key]} and is {value}: the last bits may differ"
        for key, value in _circumstances(training).items()
        if state[key] != value
    ]

"""From one world to the next, within the processes that stay, and into those that join: see ``docs/elastic.md``.

The state goes over the network, from a rank that has it to one that joins; then all prove that they hold the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist

from ...data.common import DivergedError
from ...data.samples import as_bytes
from ..checkpoint import ResumedState, StoredCheckpoint, restore, resumed_state, training_tensors
from ..rank import JOINING, RankControl, WorldChange
from ..session import LogicalStep, Training
from ..tensors import plain_state
from ..verification import StateDigest, replicated_tensors

Tensors = dict[str, torch.Tensor]
_UNSAVED = "unsaved"
"""The part of buffers that ``state_dict`` leaves out: no checkpoint has them, but a process that stays does."""


class ElasticWorld:
    """The world of an elastic run, as one rank sees it.

    Args:
        training: of this rank.
        control: says when the world is to change.
    """

    def __init__(self, training: Training, control: RankControl) -> None:
        self._training = training
        self._control = control

    def change_due(self, step: int) -> WorldChange | None:
        """Return the change that all ranks make after this many steps; None where there is none."""
        if not self._control.is_change_due(step):
            return None
        size = self._training.session.group.world_size
        return self._control.change_from(self._control.members or tuple(range(size)))

    def go_over(self, change: WorldChange, state: Mapping[str, Any] | None) -> ResumedState | None:
        """Go over to the next world, in which logical ranks are dealt anew. Collective in both.

        Args:
            change: which is due.
            state: what ``build_state`` has built, on rank 0.

        Returns:
            What a resumed run would begin with; None where this process is no member any more.
        """
        self._control.enter("starting")
        self._control.leave_world(change)
        if self._control.number not in change.after:
            self._training.session.group.close()
            return None
        return _enter(self._training, self._control, change, state)


def join_world(training: Training, control: RankControl) -> ResumedState:
    """Wait for the change that this process was started for, and take the state from a rank that has it."""
    asked = json.loads(os.environ[JOINING])
    change = control.await_change(asked["change"], tuple(asked["before"]))
    return _enter(training, control, change, None)


def _enter(
    training: Training, control: RankControl, change: WorldChange, state: Mapping[str, Any] | None
) -> ResumedState:
    stepper = training.stepper
    if not isinstance(stepper, LogicalStep):
        raise TypeError("only logical ranks can be dealt anew")
    group = training.session.group.succeeded_by(change, control.number)
    training.session.group = group
    stepper.deal_anew(group)
    resumed = _hand_over(training, change, state)
    control.enter_world(change, resumed.progress.step)
    control.enter("training")
    return resumed


def _hand_over(training: Training, change: WorldChange, state: Mapping[str, Any] | None) -> ResumedState:
    """Give the state to the ranks that join, and compare all. Collective in the world after the change.

    Args:
        training: of this rank, in that world already.
        change: that has led to it.
        state: what ``build_state`` has built, on rank 0, which has been there before.

    Returns:
        What a checkpoint of this step would bring besides tensors.

    Raises:
        DivergedError: not all have the same.
    """
    group, sources = training.session.group, change.sources
    parts = {} if group.rank in sources else _parts(training)
    own = b"" if group.rank else json.dumps({"state": state, "layout": _layout(parts)}).encode()
    document = json.loads(group.gather_bytes(own)[0])
    if group.rank in sources:
        parts = _received(document["layout"], sources[group.rank])
        resumed = _restored(training, parts, document["state"])
    else:
        for receiver in [rank for rank, source in sources.items() if source == group.rank]:
            _send(parts, receiver)
        resumed = resumed_state(document["state"], [], {})
    _compare(training, resumed)
    return resumed


def _parts(training: Training) -> dict[str, Tensors]:
    model = training.session.model
    saved = plain_state(model).keys()
    unsaved = {name: buffer for name, buffer in model.named_buffers() if name not in saved}
    return {**training_tensors(training), _UNSAVED: unsaved}


def _layout(parts: Mapping[str, Tensors]) -> dict[str, list[Any]]:
    """Describe tensors as plain values, in their order."""
    return {
        stem: [
            [name, str(value.dtype).removeprefix("torch."), list(value.shape)] for name, value in part.items()
        ]
        for stem, part in parts.items()
    }


def _send(parts: Mapping[str, Tensors], receiver: int) -> None:
    for part in parts.values():
        for tensor in part.values():
            if tensor.numel():
                dist.send(as_bytes(tensor), receiver)


def _received(layout: Mapping[str, list[Any]], source: int) -> dict[str, Tensors]:
    parts: dict[str, Tensors] = {}
    for stem, rows in layout.items():
        parts[stem] = {}
        for name, dtype, shape in rows:
            tensor = torch.empty(shape, dtype=getattr(torch, dtype))
            if tensor.numel():
                dist.recv(as_bytes(tensor), source)
            parts[stem][name] = tensor
    return parts


def _restored(training: Training, parts: Mapping[str, Tensors], state: dict[str, Any]) -> ResumedState:
    """Put the tensors where those of a checkpoint go."""
    stored: dict[str, Any] = {**parts}
    unsaved: Tensors = stored.pop(_UNSAVED)
    resumed = restore(training, StoredCheckpoint(**stored, rank_buffers={}, hooks={}, state=state))
    buffers = dict(training.session.model.named_buffers())
    with torch.no_grad():
        for name, value in unsaved.items():
            buffers[name].copy_(value)
    return replace(resumed, notes=[], joined=True)


def _compare(training: Training, resumed: ResumedState) -> None:
    """Compare what the ranks hold."""
    group = training.session.group
    digests = group.gather_bytes(_digest(training, resumed))
    if others := [rank for rank, digest in enumerate(digests) if digest != digests[0]]:
        ranks = ", ".join(map(str, others))
        raise DivergedError(
            f"after a change of the processes, rank {ranks} does not hold the state that rank 0 holds",
            "resume the run, which continues from its newest checkpoint; do not change its processes while it trains",
        )


def _digest(training: Training, resumed: ResumedState) -> bytes:
    """Hash all that decides what the next steps compute."""
    names, digests = StateDigest(training.session.group.device)(replicated_tensors(training))
    scaler, progress = training.stepper.scaler, resumed.progress
    plain = [
        sorted(zip(names, digests.tolist(), strict=True)),
        training.schedule.state(),
        None if scaler is None else scaler.state_dict(),
        training.optimizer_state.save()[1],
        [progress.epoch, progress.epoch_step, progress.step],
    ]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).digest()

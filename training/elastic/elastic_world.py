"""From one world to the next, within the processes that stay, and into those that join: see ``docs/elastic.md``.

The state goes over the network, from a rank that has it to one that joins; then all prove that they hold the same. When
one has died, none of those that are left is more than one step behind another: a rank begins a step's exchange when it
has done the step before, so while one waits in the exchange of step s, no other has done more than step s. Who has not
takes the state from one who has, as who joins does.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist

from ...data.common import DivergedError
from ...data.samples import as_bytes
from ..checkpoint import (
    Progress,
    ResumedState,
    StepsDone,
    StoredCheckpoint,
    build_state,
    restore,
    resumed_state,
    training_tensors,
)
from ..rank import JOINING, Group, Members, RankControl, WorldChange
from ..session import LogicalStep, Session, StepResult, Training
from ..tensors import plain_state
from ..tracking import EventLog
from ..verification import StateDigest, replicated_tensors

Tensors = dict[str, torch.Tensor]
_UNSAVED = "unsaved"
"""The part of buffers that ``state_dict`` leaves out: no checkpoint has them, but a process that stays does."""
_RESULT = "result"
"""The part of tensors that are the result of the last step."""
_LOSS, _WEIGHT, _TERMS, _NORM = "loss", "weight", "terms", "norm"
_RESCUE_SECONDS = 10.0
"""For the supervisor's word after an exchange has failed: it learns of a rank's end at once."""


class ElasticWorld:
    """The world of an elastic run, as one rank sees it.

    Args:
        training: of this rank.
        control: says when the world is to change.
        events: the record, which this rank may have to go on with.
    """

    def __init__(self, training: Training, control: RankControl, events: EventLog) -> None:
        self._training, self._control, self._events = training, control, events

    def change_due(self, step: int) -> WorldChange | None:
        """Return the change that all ranks make after this many steps; None where there is none."""
        return self._control.change_from(self._members) if self._control.is_change_due(step) else None

    @property
    def _members(self) -> Members:
        return self._control.members or tuple(range(self._training.session.group.world_size))

    def go_over(self, change: WorldChange, state: Mapping[str, Any] | None) -> ResumedState | None:
        """Go over to the next world, in which logical ranks are dealt anew. Collective in both.

        Args:
            change: which is due.
            state: what ``build_state`` has built, on each rank that has been there before.

        Returns:
            What a resumed run would begin with; None where this process is not a member any more.
        """
        self._control.enter("starting")
        self._control.leave_world(change)
        if self._control.number not in change.after:
            self._training.session.group.close()
            return None
        return _enter(self._training, self._control, change, state)

    def rescue_after(self, error: RuntimeError) -> WorldChange | None:
        """Return to where a step has begun that has failed because a rank has died.

        Returns:
            The change that leaves out who has died; None where the step has failed for another reason, or where the
            supervisor does not want the others to go on.
        """
        stepper, control = self._training.stepper, self._control
        if not isinstance(stepper, LogicalStep) or not control.supervised:
            return None
        if not _is_broken_exchange(stepper, error):
            return None
        self._training.session.group.abandon()
        change = control.await_rescue(self._members, _RESCUE_SECONDS)
        if change is None or control.number not in change.after:
            return None
        stepper.undo()
        return change

    def rescue(self, change: WorldChange, done: StepsDone, count: Callable[[StepResult], None]) -> None:
        """Meet those that are left, and catch up with those that are a step ahead. Collective.

        Args:
            change: that leaves out who has died.
            done: by this rank.
            count: counts the step that this rank could not finish, where others have.
        """
        training, control, progress = self._training, self._control, done.progress
        group = training.session.group
        control.leave_world(change)
        _meet(training, control, change)
        result = _catch_up(training, done)
        if result is not None:
            training.begin_step(progress.step)  # what is logged of it goes by that
            count(result)
        training.begin_step(progress.step)
        _settle_without(training.session, group, change, done)
        _compare(training, progress)
        if change.loses_first and training.session.group.rank == 0:
            self._events.take_over()
        control.enter_world(change, progress.step)


def join_world(training: Training, control: RankControl) -> ResumedState:
    """Wait for the change that this process was started for, and take the state from a rank that has it."""
    asked = json.loads(os.environ[JOINING])
    change = control.await_change(asked["change"], tuple(asked["before"]))
    return _enter(training, control, change, None)


def _enter(
    training: Training, control: RankControl, change: WorldChange, state: Mapping[str, Any] | None
) -> ResumedState:
    _meet(training, control, change)
    resumed = _hand_over(training, change, state)
    control.enter_world(change, resumed.progress.step)
    control.enter("training")
    return resumed


def _meet(training: Training, control: RankControl, change: WorldChange) -> None:
    """Form the group of the next world, and deal the logical ranks anew. Collective in it."""
    stepper = training.stepper
    if not isinstance(stepper, LogicalStep):
        raise TypeError("only logical ranks can be dealt anew")
    group = training.session.group.succeeded_by(change, control.number)
    training.session.group = group
    stepper.deal_anew(group)


def _hand_over(training: Training, change: WorldChange, state: Mapping[str, Any] | None) -> ResumedState:
    """Give the state to the ranks that join, and compare all. Collective in the world after the change.

    Args:
        training: of this rank, in that world already.
        change: that has led to it.
        state: what ``build_state`` has built, on each rank that has been there before; rank 0's is sent.

    Returns:
        What a checkpoint of this step would bring besides tensors.

    Raises:
        DivergedError: not all have the same.
    """
    group, sources = training.session.group, change.sources
    own = {} if group.rank in sources else _parts(training)
    said = b"" if group.rank else json.dumps({"state": state, "layout": _layout(own)}).encode()
    document = json.loads(group.gather_bytes(said)[0])
    if group.rank in sources:
        found = _received(document["layout"], sources[group.rank])
        resumed = _restored(training, found, document["state"])
    else:
        for receiver in [rank for rank, source in sources.items() if source == group.rank]:
            _send(own, receiver)
        resumed = resumed_state(document["state"], [], {})
        if state is not None:  # who stays goes by its own position, which is compared
            resumed = replace(resumed, progress=resumed_state(dict(state), [], {}).progress)
    _compare(training, resumed.progress)
    return resumed


def _is_broken_exchange(stepper: LogicalStep, error: RuntimeError) -> bool:
    """Say whether a step has failed in its exchange, before it has changed anything.

    In the last backward pass the exchange has begun already: there the error itself says that it is gloo's.
    """
    return stepper.can_be_undone and (stepper.is_exchanging or "gloo" in str(error).lower())


def _catch_up(training: Training, done: StepsDone) -> StepResult | None:
    """Bring all ranks to the same step: the last one that any of them has done. Collective.

    Args:
        training: of this rank, in the group of those that are left.
        done: by this rank.

    Returns:
        The result of the step that this rank had not finished; None where it has nothing to catch up with.

    Raises:
        DivergedError: a rank is further behind than by a step.
    """
    group = training.session.group
    steps = [int(said) for said in group.gather_bytes(str(done.progress.step).encode())]
    newest = max(steps)
    ahead = [rank for rank, step in enumerate(steps) if step == newest]
    behind = [rank for rank, step in enumerate(steps) if step < newest]
    if min(steps) < newest - 1:
        raise DivergedError(
            f"after the death of a process, ranks were at the steps {', '.join(map(str, steps))}",
            "resume the run, which continues from its newest checkpoint",
        )
    if not behind:
        return None
    sources = {rank: ahead[turn % len(ahead)] for turn, rank in enumerate(behind)}
    own: dict[str, Tensors] = {}
    said = b""
    if group.rank in sources.values() and done.last is not None:
        own = {**_parts(training), _RESULT: _tensors(done.last)}
        unreached = [training.names[id(parameter)] for parameter in done.last.unreached]
        state = build_state(training, done.progress, done.audit.account, {})
        said = json.dumps({"state": state, "layout": _layout(own), "unreached": unreached}).encode()
    documents = group.gather_bytes(said)
    for receiver in [rank for rank, source in sources.items() if source == group.rank]:
        _send(own, receiver)
    if group.rank not in sources:
        return None
    source = sources[group.rank]
    return _taken_over(training, json.loads(documents[source]), source)


def _settle_without(session: Session, before: Group, change: WorldChange, done: StepsDone) -> None:
    """Bring together what all ranks have counted of samples; for those that have died, what the plan says. Collective.

    Args:
        session: of this rank, in the group of those that are left.
        before: the group until then.
        change: that leaves out who has died.
        done: by this rank, and by all others.
    """
    epoch, last = done.progress.epoch, done.progress.epoch_step
    if last > done.audited:
        places = [change.before.index(number) for number in change.leaving]
        groups = {rank: Group(rank, rank, before.world_size, before.device) for rank in places}
        works = {
            rank: replace(session, group=group).train_work(epoch, done.audited)
            for rank, group in groups.items()
        }
        done.audit.settle(epoch, done.audited, last, session.group, works)


def _taken_over(training: Training, document: dict[str, Any], source: int) -> StepResult:
    """Take the state after the step, and its result, from a rank."""
    found = _received(document["layout"], source)
    tensors = found.pop(_RESULT)
    _restored(training, found, document["state"])
    unreached = {*document["unreached"]}
    parameters = [one for one in training.stepper.update.parameters if training.names[id(one)] in unreached]
    return StepResult(
        tensors[_LOSS],
        tensors.get(_WEIGHT),
        tensors.get(_TERMS),
        [tensor for name, tensor in tensors.items() if name.startswith(_NORM)],
        parameters,
    )


def _tensors(result: StepResult) -> Tensors:
    named: dict[str, torch.Tensor | None] = {_LOSS: result.loss, _WEIGHT: result.weight, _TERMS: result.terms}
    norms = {f"{_NORM} {number}": norm for number, norm in enumerate(result.norms)}
    return {name: tensor.detach() for name, tensor in {**named, **norms}.items() if tensor is not None}


def _parts(training: Training) -> dict[str, Tensors]:
    """Return all tensors that decide what the next steps compute."""
    model = training.session.model
    saved = plain_state(model).keys()
    unsaved = {name: buffer for name, buffer in model.named_buffers() if name not in saved}
    return {**training_tensors(training), _UNSAVED: unsaved}


def _layout(tensors: Mapping[str, Tensors]) -> dict[str, list[Any]]:
    """Describe tensors as plain values, in their order."""
    return {
        stem: [
            [name, str(value.dtype).removeprefix("torch."), list(value.shape)] for name, value in part.items()
        ]
        for stem, part in tensors.items()
    }


def _send(tensors: Mapping[str, Tensors], receiver: int) -> None:
    """Send tensors to a rank."""
    for part in tensors.values():
        for tensor in part.values():
            if tensor.numel():
                dist.send(as_bytes(tensor), receiver)


def _received(rows_of: Mapping[str, list[Any]], source: int) -> dict[str, Tensors]:
    """Receive from a rank the tensors that a ``_layout`` describes."""
    found: dict[str, Tensors] = {}
    for stem, rows in rows_of.items():
        found[stem] = {}
        for name, dtype, shape in rows:
            tensor = torch.empty(shape, dtype=getattr(torch, dtype))
            if tensor.numel():
                dist.recv(as_bytes(tensor), source)
            found[stem][name] = tensor
    return found


def _restored(training: Training, tensors: Mapping[str, Tensors], state: dict[str, Any]) -> ResumedState:
    """Put the tensors where those of a checkpoint go."""
    stored: dict[str, Any] = {**tensors}
    unsaved: Tensors = stored.pop(_UNSAVED)
    resumed = restore(training, StoredCheckpoint(**stored, rank_buffers={}, hooks={}, state=state))
    buffers = dict(training.session.model.named_buffers())
    with torch.no_grad():
        for name, value in unsaved.items():
            buffers[name].copy_(value)
    return replace(resumed, notes=[], joined=True)


def _compare(training: Training, progress: Progress) -> None:
    """Compare what the ranks hold. Collective.

    Raises:
        DivergedError: not all have the same.
    """
    group = training.session.group
    digests = group.gather_bytes(_digest(training, progress))
    if others := [rank for rank, digest in enumerate(digests) if digest != digests[0]]:
        ranks = ", ".join(map(str, others))
        raise DivergedError(
            f"after a change of the processes, rank {ranks} does not hold the state that rank 0 holds",
            "resume the run, which continues from its newest checkpoint; do not change its processes while it trains",
        )


def _digest(training: Training, progress: Progress) -> bytes:
    """Hash all that decides what the next steps compute."""
    names, digests = StateDigest(training.session.group.device)(replicated_tensors(training))
    scaler = training.stepper.scaler
    plain = [
        sorted(zip(names, digests.tolist(), strict=True)),
        training.schedule.state(),
        None if scaler is None else scaler.state_dict(),
        training.optimizer_state.save()[1],
        [progress.epoch, progress.epoch_step, progress.step],
        [progress.loss, progress.weight, progress.terms],
    ]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).digest()

"""Steps that are taken again, from a state that was kept: what they come to tells of two ranks which is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ...data.samples import as_bytes
from ..session import StepSeeder, Training
from .replicated_tensors import Tensors

Losses = list[torch.Tensor]
"""Of a rank in a step, one for each of its passes of logical ranks."""
MOST_RETAKEN = 5_000
"""Steps that are taken again at most: they last as long as they did, and the run is over."""
NEVER = 2**62


class KeptState:
    """The state of this rank between two steps, on the host.

    Args:
        training: whose state it is.
        step: steps done.
    """

    def __init__(self, training: Training, step: int) -> None:
        self.step = step
        self._model = _copies(_model_tensors(training))
        tensors, plain = training.optimizer_state.save()
        self._optimizer, self._plain = _copies(tensors), copy.deepcopy(plain)
        self._average = _copies(training.ema.tensors())
        self._schedule = copy.deepcopy(training.schedule.state())
        scaler = training.stepper.scaler
        self._scaler = None if scaler is None else copy.deepcopy(scaler.state_dict())

    def can_be_continued(self, training: Training) -> bool:
        """Say whether nothing but steps has changed the state since: an evaluation may have lowered the rate."""
        return bool(training.schedule.state() == self._schedule)

    def put_back(self, training: Training) -> None:
        """Give the training this state again."""
        with torch.no_grad():
            for name, tensor in _model_tensors(training).items():
                kept = self._model.get(name)
                if kept is not None and kept.shape == tensor.shape:  # else a table has grown since
                    tensor.copy_(kept)
        for optimizer in training.optimizers.values():
            optimizer.state.clear()
        training.optimizer_state.load(_copies(self._optimizer), copy.deepcopy(self._plain))
        training.ema.load(self._average)
        if training.stepper.scaler is not None and self._scaler is not None:
            training.stepper.scaler.load_state_dict(self._scaler)


def take_again(training: Training, kept: KeptState, last: int, touch: Callable[[], None]) -> list[Losses]:
    """Take the steps after ``kept`` again; return this rank's losses in each of them. Collective.

    Args:
        training: is left as it is after the last step.
        kept: the state before the first step.
        last: of the run.
        touch: gives a sign of life: no step is counted meanwhile.
    """
    kept.put_back(training)
    losses: list[Losses] = []
    session, step = training.session, kept.step
    draws = StepSeeder(session.spec.config.train.seed, session.group.rank, session.group.device)
    session.model.train()
    while step < last:
        epoch, at = divmod(step, session.batches.steps)
        for fetched in session.train_feed.fetch(session.train_work(epoch, at)):
            draws.reseed(step)
            training.begin_step(step)
            samples = 0 if fetched.work.stand_in else fetched.indices.size
            training.stepper.run(fetched, session.batches.size(step % session.batches.steps), samples)
            losses.append(training.stepper.own_losses)
            touch()
            step += 1
            training.ema.update(step)
            if step == last:
                break
    return losses


def first_other(losses: Sequence[Losses], again: Sequence[Losses]) -> int:
    """Return the first step in which a rank's losses differ in a bit; ``NEVER`` for none."""
    pairs = enumerate(zip(losses, again, strict=False))
    return next((at for at, (one, other) in pairs if not _are_equal(one, other)), NEVER)


def _are_equal(one: Losses, other: Losses) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(torch.equal(as_bytes(a), as_bytes(b)) for a, b in pairs)


def _model_tensors(training: Training) -> Mapping[str, torch.Tensor]:
    model = training.session.model
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _copies(tensors: Mapping[str, Any]) -> Tensors:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

"""A copy of all that training changes, to take steps again from it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from ..session import StepSeeder, Training

Tensors = dict[str, torch.Tensor]


def replicated_tensors(training: Training) -> Tensors:
    """Return what is the same on every rank, by name: weights, the optimizer's state, averages.

    Buffers are among it with logical ranks only: else each rank's statistics are of its own samples.
    """
    model = training.session.model
    tensors: Tensors = {f"weight {name}": parameter for name, parameter in model.named_parameters()}
    if training.session.spec.config.train.logical_ranks:
        tensors |= {f"buffer {name}": buffer for name, buffer in model.named_buffers()}
    tensors |= {f"optimizer's {key}": tensor for key, tensor in training.optimizer_state.save()[0].items()}
    return tensors | {f"average of {name}": tensor for name, tensor in training.ema.tensors().items()}


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
                tensor.copy_(self._model[name])
        for optimizer in training.optimizers.values():
            optimizer.state.clear()
        training.optimizer_state.load(_copies(self._optimizer), copy.deepcopy(self._plain))
        training.ema.load(self._average)
        if training.stepper.scaler is not None and self._scaler is not None:
            training.stepper.scaler.load_state_dict(self._scaler)


def take_again(training: Training, kept: KeptState, last: int) -> None:
    """Take the steps after ``kept`` again, up to ``last`` of the run. Collective."""
    kept.put_back(training)
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
            step += 1
            training.ema.update(step)
            if step == last:
                break


def _model_tensors(training: Training) -> Mapping[str, torch.Tensor]:
    model = training.session.model
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _copies(tensors: Mapping[str, Any]) -> Tensors:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

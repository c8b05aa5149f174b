"""Backward passes that leave parameters out: nothing waits, and what nobody reaches has no gradient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lockstep.data.loading.feed import StepBatch, Work
from lockstep.training.config.optimizers import OptimizerConfig
from lockstep.training.losses.objective import LossObjective
from lockstep.training.optim.freezing import Freezing
from lockstep.training.optim.parameter_groups import divide_parameters, trained_spans
from lockstep.training.optim.update import Update
from lockstep.training.parallel.gradient_exchange import Replica
from lockstep.training.rank.process_group import Group
from lockstep.training.session.train_step import TrainStep


@pytest.fixture
def gloo() -> Iterator[None]:
    """A group of one rank, in which DDP waits for its parameters as in any other."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class _Nothing(torch.autograd.Function):
    """Reaches its input in the graph, and gives it no gradient."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *gradients: torch.Tensor) -> None:
        return None


class Parts(nn.Module):
    """Uses the parts that the input's first value names, one bit for each."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bits, out = int(x[0, 0]), x
        for at, part in enumerate((self.a, self.b, self.c)):
            if bits & 1 << at:
                out = out + part(x)
        if bits & 8:
            out = out + _Nothing.apply(self.c.weight).sum()
        return out


def _loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output.sum(1) - target) ** 2


def _batch(*bits: int) -> StepBatch:
    micro = [(torch.full((2, 2), float(value)), torch.ones(2)) for value in bits]
    indices = np.arange(2 * len(bits), dtype=np.int64)
    return StepBatch(micro, indices, Work(indices, [2] * len(bits)))


def _gradients(model: nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


STEPS = [(7,), (1,), (2, 4), (0,), (4, 1, 1), (9,), (8,), (7, 7), (0, 3, 0)]


def test_every_step_leaves_the_gradients_of_a_model_without_ddp(gloo: None, alone: Group) -> None:
    model, plain = Parts(), Parts()
    plain.load_state_dict(model.state_dict())
    wrapped = DistributedDataParallel(Replica(model), gradient_as_bucket_view=True)
    steppers = [
        TrainStep(module, LossObjective(_loss), Update(torch.optim.SGD(of.parameters(), lr=0.0)), alone, None)
        for module, of in ((wrapped, model), (plain, plain))
    ]
    for bits in STEPS:
        for stepper in steppers:
            stepper.run(_batch(*bits), 2 * len(bits), 2 * len(bits))
        ours, theirs = _gradients(model), _gradients(plain)
        used = {name for name, gradient in theirs.items() if gradient is not None}
        assert {name for name, gradient in ours.items() if gradient is not None} == used, bits
        for name in used:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)
        counts = [len(stepper.unreached) for stepper in steppers]
        assert counts == [6 - len(used)] * 2


def test_a_stand_in_reaches_nothing(gloo: None, alone: Group) -> None:
    model = Parts()
    wrapped = DistributedDataParallel(Replica(model), gradient_as_bucket_view=True)
    update = Update(torch.optim.SGD(model.parameters(), lr=0.1))
    stepper = TrainStep(wrapped, LossObjective(_loss), update, alone, None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stepper.warm_up((torch.full((2, 2), 7.0), torch.ones(2)), 2)
    assert set(_gradients(model).values()) == {None}
    stepper.run(_batch(7), 5, 0)
    assert set(_gradients(model).values()) == {None}, "an optimizer would decay what has a gradient of zero"
    stepper.run(_batch(7), 2, 2)
    assert None not in _gradients(model).values()
    assert not torch.equal(model.a.weight, before["a.weight"])


def test_what_is_frozen_has_no_gradient_whatever_the_ranks_reach(gloo: None, alone: Group) -> None:
    model, plain = Parts(), Parts()
    plain.load_state_dict(model.state_dict())
    wrapped = DistributedDataParallel(Replica(model), gradient_as_bucket_view=True)
    config = OptimizerConfig.model_validate({"groups": [{"match": "^b", "until": 4, "after": 9}]})
    steppers = []
    for module, of in ((wrapped, model), (plain, plain)):
        optimizer = torch.optim.SGD(of.parameters(), lr=0.1, weight_decay=0.1)
        freezing = Freezing(trained_spans(divide_parameters(config, of), 4, 100))
        steppers.append(
            TrainStep(module, LossObjective(_loss), Update(optimizer), alone, None, freezing=freezing)
        )
    steppers[0].warm_up((torch.full((2, 2), 7.0), torch.ones(2)), 2)
    for step, bits in enumerate([(7,), (5,), (2, 4), (7, 7), *STEPS]):
        frozen = step < 4 or step >= 9
        before = model.b.weight.detach().clone()
        for stepper in steppers:
            stepper.freezing.set(step)
            stepper.run(_batch(*bits), 2 * len(bits), 2 * len(bits))
            missed = {id(parameter) for parameter in stepper.unreached}
            assert not (frozen and missed & {id(model.b.weight), id(plain.b.weight)}), (
                "it is not to be reached"
            )
        ours, theirs = _gradients(model), _gradients(plain)
        for name, gradient in theirs.items():
            torch.testing.assert_close(ours[name], gradient, rtol=0, atol=0)
        assert (ours["b.weight"] is None) >= frozen
        assert torch.equal(model.b.weight, before) >= frozen
        assert all(map(torch.equal, model.parameters(), plain.parameters()))
    stepper = steppers[0]
    stepper.freezing.set(0)
    stepper.run(_batch(7), 5, 0)
    assert set(_gradients(model).values()) == {None}, (
        "a rank without samples reaches nothing, and waits for nobody"
    )

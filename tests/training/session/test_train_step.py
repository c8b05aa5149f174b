from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lockstep.data.loading.feed import StepBatch, Work
from lockstep.training.losses.objective import Loss, LossObjective
from lockstep.training.optim.update import Update
from lockstep.training.rank.process_group import Group
from lockstep.training.session.kept_buffers import KeptBuffers, preserved_buffers
from lockstep.training.session.train_step import TrainStep, try_step

ROWS = 13


def _model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(ROWS, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 2, (ROWS,), generator=generator)


def _fetched(sizes: Sequence[int]) -> StepBatch:
    x, y = _data()
    rows = sum(sizes)
    micro = list(zip(x[:rows].split(list(sizes)), y[:rows].split(list(sizes)), strict=True))
    indices = np.arange(rows, dtype=np.int64)
    return StepBatch(micro, indices, Work(indices, sizes))


def _per_sample(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(output, target, reduction="none")


def _weighted(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    weights = 1.0 + target.double()
    return (_per_sample(output, target) * weights).sum(), weights.sum()


def _stepper(model: nn.Module, loss: Loss, group: Group, **settings: Any) -> TrainStep:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    scaler = settings.get("scaler")
    return TrainStep(model, LossObjective(loss), Update(optimizer, scaler=scaler), group, scaler)


def _gradients(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters()]


def _stepped(loss: Loss, group: Group, sizes: Sequence[int], size: int = ROWS) -> tuple[Any, nn.Module]:
    model = _model()
    result = _stepper(model, loss, group).run(_fetched(sizes), size, sum(sizes))
    return result, model


@pytest.mark.parametrize("cut", [[13], [4, 4, 5]])
def test_the_samples_of_a_batch_are_those_that_were_asked_for_whatever_its_targets_look_like(
    alone: Group, cut: list[int]
) -> None:
    """The length of a file's name, or of a table that goes with the batch, was taken for the batch's."""
    batch = _fetched(cut)
    batch.micro = [
        (x, {"file": [f"picture-{row}.png" for row in range(len(y))], "costs": torch.ones(3), "label": y})
        for x, y in batch.micro
    ]
    model, plain = _model(), _model()
    _stepper(model, lambda o, t: _per_sample(o, t["label"]), alone).run(batch, ROWS, ROWS)
    _stepper(plain, _per_sample, alone).run(_fetched(cut), ROWS, ROWS)
    assert all(map(torch.equal, _gradients(model), _gradients(plain)))


CUTS = [[13], [12, 1], [4, 4, 5], [1] * 13]


@pytest.mark.parametrize("cut", CUTS)
def test_the_gradient_is_that_of_the_mean_over_the_global_batch_however_it_is_cut(
    alone: Group, cut: list[int]
) -> None:
    (summed, weight), model = _stepped(_per_sample, alone, cut)
    reference = _model()
    x, y = _data()
    loss = functional.cross_entropy(reference(x), y)
    loss.backward()
    torch.testing.assert_close(_gradients(model), _gradients(reference), rtol=0, atol=1e-15)
    assert weight is None
    assert float(summed) == pytest.approx(13 * float(loss.detach()), rel=1e-14)


@pytest.mark.parametrize("cut", CUTS)
def test_a_sum_with_its_weight_is_divided_by_the_weight_of_the_whole_batch(
    alone: Group, cut: list[int]
) -> None:
    (summed, weight), model = _stepped(_weighted, alone, cut)
    reference = _model()
    x, y = _data()
    loss = functional.cross_entropy(reference(x), y, weight=torch.tensor([1.0, 2.0]).double())
    loss.backward()
    torch.testing.assert_close(_gradients(model), _gradients(reference), rtol=0, atol=1e-15)
    assert float(weight) == float((1 + y).sum())
    assert float(summed / weight) == pytest.approx(float(loss.detach()), rel=1e-14)


def test_a_short_tail_weighs_each_of_its_samples_as_the_global_batch_says(alone: Group) -> None:
    """Four samples here of a global batch of nine: the rest is on other ranks."""
    _, model = _stepped(_per_sample, alone, [4], size=9)
    reference = _model()
    x, y = _data()
    (functional.cross_entropy(reference(x[:4]), y[:4], reduction="sum") / 9).backward()
    torch.testing.assert_close(_gradients(model), _gradients(reference), rtol=0, atol=1e-15)


def test_the_mean_over_ranks_that_ddp_takes_is_undone(alone: Group) -> None:
    many = Group(1, 1, 3, torch.device("cpu"))
    _, one = _stepped(_per_sample, alone, [13])
    _, scaled = _stepped(_per_sample, many, [13])
    torch.testing.assert_close(_gradients(scaled), [3 * g for g in _gradients(one)], rtol=1e-15, atol=0)


def test_each_step_starts_from_no_gradient(alone: Group) -> None:
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    stepper = TrainStep(model, LossObjective(_per_sample), Update(optimizer), alone, None)
    stepper.run(_fetched([13]), 13, 13)
    first = _gradients(model)
    stepper.run(_fetched([13]), 13, 13)
    torch.testing.assert_close(_gradients(model), first, rtol=0, atol=0)


class Counting(nn.Module):
    """Batch norm, and a counter that every training forward turns."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.layer = nn.BatchNorm1d(3), nn.Linear(3, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.layer(self.norm(x))


def _buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


@pytest.mark.parametrize("loss", [_per_sample, _weighted])
def test_a_stand_in_teaches_nothing(alone: Group, loss: Loss) -> None:
    model = Counting().double()
    before = _buffers(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    stepper = TrainStep(model, LossObjective(loss), Update(optimizer), alone, None)
    if loss is _weighted:  # alone, the weight of the whole batch would be 0; elsewhere are others
        stepper._divide = lambda weight: None  # type: ignore[method-assign]
    summed, weight = stepper.run(_fetched([2]), 5, 0)
    assert float(summed) == 0
    assert weight is None or float(weight) == 0
    assert all(bool((parameter.grad == 0).all()) for parameter in model.parameters())
    assert all(torch.equal(parameter, weights[name]) for name, parameter in model.named_parameters())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_a_real_step_does_teach_the_buffers(alone: Group) -> None:
    model = Counting().double()
    _stepper(model, _per_sample, alone).run(_fetched([13]), 13, 13)
    assert float(model.calls) == 1
    assert not torch.equal(model.norm.running_mean, torch.zeros(3).double())


def test_buffers_are_restored_when_what_runs_inside_raises() -> None:
    model = Counting()

    def fail() -> None:
        with preserved_buffers(model):
            model(torch.rand(4, 3))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert float(model.calls) == 0


class Replacing(nn.Module):
    """Each forward puts new tensors in the place of its buffers, one of them expanded, one of the input's shape."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("wide", torch.zeros(1).expand(3))
        self.register_buffer("like", torch.empty(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count = self.count + 1
        self.wide = (self.wide[0] + 1).expand(3)
        self.like = torch.zeros(x.shape[1])
        return x


def test_buffers_are_restored_that_were_expanded_or_replaced() -> None:
    model = Replacing()
    for _ in range(2):
        with preserved_buffers(model):
            model(torch.rand(4, 5))
        assert float(model.count) == 0
        assert torch.equal(model.wide, torch.zeros(3))
        assert model.like.shape == (0,)
    assert list(dict(model.named_buffers())) == ["count", "wide", "like"]


def test_what_is_written_in_whatever_way_has_changed_and_a_nan_that_stays_has_not() -> None:
    model = nn.BatchNorm1d(2)
    model.register_buffer("nan", torch.tensor([torch.nan, -torch.inf]))
    kept = KeptBuffers(nn.Sequential(model))
    assert kept.changed() == {}
    model.running_mean.data.add_(1)
    model.num_batches_tracked = model.num_batches_tracked + 1
    assert kept.changed().keys() == {"0.running_mean", "0.num_batches_tracked"}
    kept.restore()
    assert kept.changed() == {}


def test_a_step_that_is_tried_leaves_neither_buffers_nor_a_gradient_that_is_not_zero() -> None:
    model = Counting().double()
    x, y = _data()
    output = try_step(model, model, LossObjective(_per_sample), (x, y), len(x)).output
    assert output.shape == (13, 2)
    assert float(model.calls) == 0
    assert all(bool((parameter.grad == 0).all()) for parameter in model.parameters())


def test_a_scaler_changes_nothing_in_the_step_that_is_taken(alone: Group) -> None:
    plain, scaled = _model(), _model()
    for model, scaler in ((plain, None), (scaled, torch.amp.GradScaler("cpu", init_scale=1024.0))):
        stepper = _stepper(model, _per_sample, alone, scaler=scaler)
        for _ in range(3):
            stepper.run(_fetched([6, 7]), 13, 13)
    for ours, theirs in zip(scaled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_a_global_batch_of_weight_zero_has_a_gradient_of_zero(alone: Group) -> None:
    def ignored(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total, weight = _weighted(output, target)
        return total * 0, weight * 0

    (summed, weight), model = _stepped(ignored, alone, [12, 1])
    assert (float(summed), weight) == (0.0, 0.0)
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in _gradients(model))


@pytest.mark.parametrize("cut", CUTS)
def test_what_is_measured_in_a_step_is_of_its_outputs_and_changes_nothing(
    alone: Group, cut: list[int]
) -> None:
    model, plain = _model(), _model()
    stepper = _stepper(model, _per_sample, alone)
    stepper.measured = (
        lambda output, target: torch.stack([(output[:, 0] * target).sum(), target.double().sum()]),
    )
    stepper.run(_fetched(cut), ROWS, ROWS)
    _stepper(plain, _per_sample, alone).run(_fetched(cut), ROWS, ROWS)
    assert all(map(torch.equal, _gradients(model), _gradients(plain)))
    x, y = _data()
    with torch.no_grad():
        expected = torch.stack([(_model()(x)[:, 0] * y).sum(), y.double().sum()])[None]
    assert stepper.terms is not None
    assert not stepper.terms.requires_grad
    torch.testing.assert_close(stepper.terms, expected, rtol=1e-14, atol=0)

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lockstep.data.common.errors import UsageError
from lockstep.data.order.sample_order import EpochBatches, micro_batch_sizes
from lockstep.training.components.batch_norm import (
    averaged,
    has_batch_norm,
    refuse_single_sample_batches,
    running_statistics,
)
from lockstep.training.rank.process_group import Group

OTHERS = torch.tensor([10.0, 20.0])


@dataclass(frozen=True)
class Pair(Group):
    """Two ranks, of which the other one's values are these plus ``OTHERS``."""

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        return values.mul_(2).add_(OTHERS)


@pytest.fixture
def pair() -> Group:
    return Pair(0, 0, 2, torch.device("cpu"))


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm1d(2, affine=False)))


def test_statistics_are_named_as_the_model_names_them() -> None:
    model = _model()
    assert running_statistics(model).keys() <= model.state_dict().keys()
    assert len(running_statistics(model)) == 4
    assert running_statistics(nn.BatchNorm1d(2)).keys() == {"running_mean", "running_var"}
    assert running_statistics(nn.BatchNorm1d(2, track_running_stats=False)) == {}


def test_only_batch_norm_mixes_samples() -> None:
    assert has_batch_norm(_model())
    assert has_batch_norm(nn.SyncBatchNorm(2))
    assert not has_batch_norm(nn.Sequential(nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.InstanceNorm1d(2)))


def test_inside_statistics_are_the_mean_and_afterwards_each_ranks_own(pair: Group) -> None:
    model = _model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with averaged(model, pair):
        assert torch.equal(model[1].running_mean, torch.tensor([5.0, 10.0]))
        assert torch.equal(model[1].running_var, torch.tensor([6.0, 11.0]))
        assert torch.equal(model[0].weight, before["0.weight"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_they_are_restored_when_evaluation_raises(pair: Group) -> None:
    model = _model()

    def fail() -> None:
        with averaged(model, pair):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(model[1].running_mean, torch.zeros(2))


def test_one_rank_has_nothing_to_average_or_to_gather(alone: Group) -> None:
    model = _model()
    model[1].running_mean.fill_(3)
    with averaged(model, alone):
        assert torch.equal(model[1].running_mean, torch.full((2,), 3.0))


@given(
    n=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    world_size=st.integers(1, 7),
    limit=st.none() | st.integers(1, 9),
)
def test_refused_is_exactly_what_has_a_micro_batch_of_one(
    n: int, batch_size: int, world_size: int, limit: int | None
) -> None:
    batches = EpochBatches(n, batch_size)
    shards = [batches.shard(s, r, world_size) for s in range(batches.steps) for r in range(world_size)]
    single = any(1 in micro_batch_sizes(stop - start, limit) for start, stop in shards)
    try:
        refuse_single_sample_batches(_model(), batches, world_size, limit)
    except UsageError:
        assert single
    else:
        assert not single
    refuse_single_sample_batches(nn.Linear(2, 2), batches, world_size, limit)

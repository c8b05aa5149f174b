"""Buffers of two ranks that are threads: inside, all ranks see those of the checkpoint."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from lockstep.training.components.common_buffers import shared_buffers
from tests.helpers.threaded_ranks import Threaded, threaded_groups


def _model(rank: int) -> nn.Module:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[0].running_mean += rank
    model[0].num_batches_tracked += rank
    model.register_buffer("codes", torch.tensor([[1.5, rank], [0.0, -torch.inf]]))
    model.register_buffer("flags", torch.tensor([[True, bool(rank)]]))
    model.register_buffer("strided", torch.arange(6.0).view(2, 3).t() + rank)
    model.register_buffer("passing", torch.tensor(rank), persistent=False)
    model.register_buffer("table", torch.arange(3 + rank), persistent=False)
    model.register_buffer("empty", torch.empty(0))
    if rank:
        model.register_buffer("mine", torch.ones(2))
    return model


def _inside(group: Threaded) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    model = _model(group.rank)
    with shared_buffers(model, group):
        seen = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return seen, dict(model.named_buffers())


def test_inside_all_ranks_see_the_means_of_statistics_and_the_first_ranks_other_buffers() -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(_inside, threaded_groups()))
    for rank, (seen, after) in enumerate(found):
        own, first = dict(_model(rank).named_buffers()), dict(_model(0).named_buffers())
        assert torch.equal(seen["0.running_mean"], torch.full((2,), 0.5))
        for name in ("0.num_batches_tracked", "codes", "flags", "strided", "passing"):
            assert torch.equal(seen[name], first[name]), name
        for name in own.keys() & {"table", "mine", "empty"}:
            assert torch.equal(seen[name], own[name]), name
        assert all(torch.equal(value, own[name]) for name, value in after.items())


def test_each_rank_has_its_own_again_when_an_evaluation_raises() -> None:
    def fail(group: Threaded) -> torch.Tensor:
        model = _model(group.rank)
        with pytest.raises(KeyError), shared_buffers(model, group):
            raise KeyError
        return model.codes

    with ThreadPoolExecutor(2) as pool:
        for rank, codes in enumerate(pool.map(fail, threaded_groups())):
            assert torch.equal(codes, _model(rank).codes)

"""Buffers of each rank's own, by two ranks that are threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from lockstep.training.checkpoint.rank_buffers import gathered, restore
from lockstep.training.rank.process_group import Group
from lockstep.training.tensors.buffer_memory import materialise_expanded_buffers
from tests.helpers.threaded_ranks import threaded_groups


def _model(rank: int) -> nn.Module:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[0].running_mean += rank
    model.register_buffer("same", torch.arange(3))
    model.register_buffer("flags", torch.tensor([[True, bool(rank)], [False, True]]))
    model.register_buffer("count", torch.tensor(7 + rank))
    model.register_buffer("half_wide", torch.tensor([1.5, rank], dtype=torch.bfloat16))
    model.register_buffer("strided", torch.arange(6.0).view(2, 3).t() + rank)
    model.register_buffer("expanded", torch.tensor([1.0 + rank]).expand(2, 3))
    model.register_buffer("empty", torch.empty(0, 4))
    model.register_buffer("table", torch.arange(3 + rank))
    model.register_buffer("passing", torch.tensor(rank), persistent=False)
    return model


def _gather_both() -> list[dict[str, torch.Tensor]]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda group: gathered(_model(group.rank), group), threaded_groups()))


def test_statistics_are_gathered_and_what_differs_and_nothing_else() -> None:
    mine, theirs = _gather_both()
    assert mine.keys() == theirs.keys()
    assert mine.keys() == {
        "0.running_mean",
        "0.running_var",
        "flags",
        "count",
        "half_wide",
        "strided",
        "expanded",
    }
    for rank in range(2):
        for name, rows in mine.items():
            own = _model(rank).get_buffer(name)
            assert rows.dtype == own.dtype
            assert torch.equal(rows[rank], own), name


def test_each_rank_gets_its_own_again() -> None:
    rows = _gather_both()[0]
    for group in threaded_groups():
        model = _model(0)
        assert restore(model, rows, group) == []
        for name in rows:
            assert torch.equal(model.get_buffer(name), _model(group.rank).get_buffer(name)), name


def test_on_another_number_of_ranks_what_has_no_average_is_named() -> None:
    model, rows = _model(0), _gather_both()[0]
    alone = Group(0, 0, 1, torch.device("cpu"))
    assert restore(model, rows, alone) == ["flags", "count", "half_wide", "strided", "expanded"]
    assert torch.equal(model.get_buffer("0.running_mean"), _model(0).get_buffer("0.running_mean"))
    assert gathered(model, alone) == {}


def test_an_expanded_buffer_gets_memory_of_its_own_and_stays_one_for_all_who_share_it() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.LazyBatchNorm1d())
    shared, plain = torch.tensor([3.0, 4.0]).view(2, 1).expand(2, 5), torch.arange(3.0)
    for layer in model[:2]:
        layer.register_buffer("shared", shared)
        layer.register_buffer("plain", plain)
    materialise_expanded_buffers(model)
    assert model[0].shared is model[1].shared
    assert torch.equal(model[0].shared, shared)
    assert model[0].shared.is_contiguous()
    assert model[0].plain is model[1].plain is plain

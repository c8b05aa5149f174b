from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lockstep.data.config.data_look import DataLook, PartLook, SplitLook, ValueKind
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.training.loop.pace import Pace, peak_flops, tokens_per_sample
from lockstep.training.rank.process_group import Group


def _facts(pictures: DatasetInfo, *parts: PartLook) -> DatasetInfo:
    return replace(pictures, look=DataLook(SplitLook(5, 5, 0, parts), None))


def _part(name: str, *kinds: tuple[str, tuple[tuple[int, int], ...]]) -> PartLook:
    return PartLook(name, tuple(ValueKind(type_, shape, 5) for type_, shape in kinds), 0, 9, 0)


def _pace(facts: DatasetInfo, group: Group, compilation: Any = None) -> Pace:
    session = SimpleNamespace(
        group=group, spec=SimpleNamespace(facts=facts), numerics=SimpleNamespace(name="fp32")
    )
    training: Any = SimpleNamespace(session=session, compilation=compilation, flops=10.0)
    return Pace(training)


@pytest.mark.parametrize(
    ("kinds", "tokens"),
    [
        ((("int64", ((128, 128),)),), 128),
        ((("int32", ((5, 5),)),), 5),
        ((("int64", ((1, 128),)),), None),
        ((("int64", ((64, 64),)), ("int64", ((32, 32),))), None),
        ((("int64", ()),), None),
        ((("uint8", ((1, 1), (28, 28), (28, 28))),), None),
        ((("float32", ((128, 128),)),), None),
    ],
)
def test_tokens_are_counted_where_every_sample_has_as_many(
    pictures: DatasetInfo, kinds: Any, tokens: int | None
) -> None:
    assert tokens_per_sample(_facts(pictures, _part("input", *kinds))) == tokens
    assert tokens_per_sample(_facts(pictures, _part("target", *kinds))) is None
    assert tokens_per_sample(_facts(pictures, _part("input.ids", *kinds))) == tokens


@pytest.mark.parametrize(
    ("name", "precision", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA H200", "fp16", 989),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5),
        ("NVIDIA A10G", "bf16", 70),
        ("NVIDIA L40S", "bf16", 362),
        ("NVIDIA A1000", "bf16", None),
        ("NVIDIA H100 80GB HBM3", "fp64", None),
        ("", "fp32", None),
    ],
)
def test_a_peak_is_given_only_for_a_device_and_a_precision_that_are_known(
    name: str, precision: str, tera: float | None
) -> None:
    assert peak_flops(name, precision) == (None if tera is None else tera * 1e12)


def test_the_pace_of_an_epoch_leaves_out_the_compiler(pictures: DatasetInfo, alone: Group) -> None:
    compilation = SimpleNamespace(seconds=3.0, take_seconds=lambda: 3.0)
    facts = _facts(pictures, _part("input", ("int64", ((16, 16),))))
    row = _pace(facts, alone, compilation).epoch(100, 10.0, 15.0)
    assert (row["train_seconds"], row["compile_seconds"]) == (2.0, 3.0)
    assert (row["samples_per_second"], row["tokens_per_second"]) == (50.0, 800.0)
    assert row["memory_peak_mb"] > 1
    plain = _pace(pictures, alone).epoch(100, 10.0, 15.0)
    assert (plain["samples_per_second"], plain["train_seconds"]) == (20.0, 5.0)
    assert plain.keys() == {"samples_per_second", "train_seconds", "val_seconds", "memory_peak_mb"}
    assert _pace(pictures, alone).epoch(0, 10.0, 10.0)["samples_per_second"] is None


def test_the_pace_between_two_steps_is_that_of_the_samples_in_between(
    pictures: DatasetInfo, alone: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 12.0, 12.0, 20.0, 21.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    pace = _pace(pictures, alone)
    assert pace.step(100) == {}
    assert pace.step(150) == {"samples_per_second": 25.0}
    assert pace.step(150) == {}, "two readings at one step have no pace"
    pace.pause()
    assert pace.step(180) == {}, "the evaluation before it is not training"
    assert pace.step(190) == {"samples_per_second": 10.0}


def test_the_use_of_a_gpu_is_the_share_of_all_ranks_peak(
    pictures: DatasetInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    pace = _pace(pictures, Group(0, 0, 2, torch.device("cuda", 0)))
    clock = iter([0.0, 1.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    pace.step(0)
    assert pace.step(13 * 10**11)["flop_utilisation"] == pytest.approx(1.0)

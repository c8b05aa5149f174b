"""Models and strategies on a real GPU. ``LOCKSTEP_TEST_GPU=cpu`` runs what can run without one on the processor."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from lockstep.training.config.run_spec import read_spec
from lockstep.training.loop.loss_meter import LossMeter
from lockstep.training.loop.norm_meter import NormMeter
from lockstep.training.parallel.sharding import shard
from lockstep.training.rank.process_group import Group
from lockstep.training.session.build import build_session, build_training
from lockstep.training.session.step_seeding import StepSeeder
from tests.helpers.launch import Launch
from tests.helpers.run_records import final_weights

DRY = os.environ.get("LOCKSTEP_TEST_GPU") == "cpu"
DEVICE = torch.device("cpu") if DRY else torch.device("cuda", 0)
GPUS = torch.cuda.device_count()
pytestmark = pytest.mark.skipif(not (DRY or torch.cuda.is_available()), reason="needs a CUDA GPU")
needs_two = pytest.mark.skipif(not DRY and GPUS < 2, reason=f"needs 2 CUDA GPUs, and there are {GPUS}")
SMALL = ("data.args.train=803", "data.args.val=203", "train.epochs=1", "train.deterministic=true")
STEPS = 100


@pytest.fixture(autouse=True)
def visible_gpus(own_folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic kernels ask for


def _where(processes: int) -> tuple[str, str]:
    return ("--cpu" if DRY else "--gpus", str(processes))


def _train(launch: Launch, processes: int, *settings: str) -> dict[str, Any]:
    result = launch("train", *SMALL, *settings, *_where(processes), "--json")
    assert result.status == 0, result.err
    return result.document


def _check_alike(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    assert one["consumed_digest"] == other["consumed_digest"]
    weights = [final_weights(run) for run in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], rtol=tolerance, atol=tolerance), name


def test_a_compiled_model_trains_as_it_does_uncompiled(launch: Launch) -> None:
    runs = [
        _train(launch, 1, "train.precision=fp32", f"train.compile={word}", "optimizer={use: sgd, lr: 0.05}")
        for word in ("false", "true")
    ]
    _check_alike(*runs, 1e-3)


@needs_two
@pytest.mark.parametrize("settings", [["model.sync_batch_norm=true"], []], ids=["synchronised", "apart"])
def test_synchronised_batch_norm_is_that_of_one_process(launch: Launch, settings: list[str]) -> None:
    model = ("model.use=cnn", "train.precision=fp64", "optimizer={use: sgd, lr: 0.05}", *settings)
    one, two = (_train(launch, processes, *model) for processes in (1, 2))
    if settings:
        _check_alike(one, two, 1e-9)


@needs_two
@pytest.mark.parametrize("precision", ["fp64", "bf16"])
def test_parts_of_parameters_train_as_whole_ones(launch: Launch, precision: str) -> None:
    given = (f"train.precision={precision}", "optimizer={use: sgd, lr: 0.05}")
    runs = [_train(launch, 2, f"train.strategy={strategy}", *given) for strategy in ("ddp", "fsdp")]
    _check_alike(*runs, 1e-9 if precision == "fp64" else 2e-2)


@contextmanager
def _group() -> Iterator[Group]:
    """A group of one rank, with the device's own backend."""
    backend = "gloo" if DRY else "nccl"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield Group(0, 0, 1, DEVICE)
    finally:
        dist.destroy_process_group()


def test_a_single_gpu_trains_the_parts_that_it_has_of_a_model() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)).double().to(DEVICE)
    cut, x = copy.deepcopy(plain), torch.randn(5, 8, dtype=torch.float64).to(DEVICE)
    with _group() as group:
        shard(cut, cut, group)
        optimizers = [torch.optim.Adam(model.parameters(), lr=0.01) for model in (plain, cut)]
        for _ in range(5):
            for model, optimizer in zip((plain, cut), optimizers, strict=True):
                optimizer.zero_grad()
                model(x).square().sum().backward()
                optimizer.step()
        pairs = zip(plain.parameters(), cut.parameters(), strict=True)
        assert all(torch.allclose(a, b.full_tensor(), rtol=1e-12, atol=1e-12) for a, b in pairs)


def test_fp8_is_refused_with_its_reasons_on_a_gpu_too(launch: Launch) -> None:
    result = launch("train", *SMALL, "train.precision=fp8", *_where(1))
    assert result.status == 2
    assert "fp8 is not built in" in result.err
    assert "Use bf16" in result.err


FEATURES = {
    "plain": [],
    "fp16": ["train.precision=fp16"],
    "bf16, averaged, clipped, measured": [
        "train.precision=bf16",
        "train.ema={decay: 0.9}",
        "optimizer.clip_norm=0.5",
        "optimizer.clip_value=1",
        "train.metrics=true",
    ],
    "convolutions, accumulated": ["model.use=cnn", "data.max_micro_batch=24"],
    "frozen, then trained": ["optimizer.groups=[{max_ndim: 1, until: 20}]"],
}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_hundred_steps_never_wait_for_the_gpu(launch: Launch, tmp_path: Path, feature: str) -> None:
    samples = ("data.args.train=6400", "data.args.val=203", "data.batch_size=64", "log.every_steps=10")
    planned = launch("train", *samples, *FEATURES[feature], *_where(1), "--dry-run", "--json")
    (tmp_path / "spec.json").write_text(json.dumps(planned.document["spec"]))
    session = build_session(read_spec(tmp_path / "spec.json"), Group(0, 0, 1, DEVICE))
    training = build_training(session)
    session.model.train()
    stepper, seeder = training.stepper, StepSeeder(0, 0, DEVICE)
    meter = LossMeter(session.group, 10, training.terms)
    norms = NormMeter(10, stepper.norm_names, skips=stepper.skips)
    batches = session.train_feed.fetch(session.train_work(0, 0))
    readings = []
    with _refusing_waits():
        for step in range(STEPS):
            batch = next(batches)
            seeder.reseed(step)
            training.begin_step(step)
            samples_done = batch.indices.size
            loss, weight = stepper.run(batch, session.batches.size(step), samples_done)
            training.ema.update(step + 1)
            norms.add(step + 1, stepper.norms)
            readings.append(meter.add(step + 1, loss, weight, samples_done, stepper.terms))
    read = [reading for reading in readings if reading is not None]
    assert [reading.step for reading in read] == list(range(10, STEPS, 10)), "each an interval late"
    assert read[-1].mean < read[0].mean
    assert all(bool(parameter.isfinite().all()) for parameter in session.model.parameters())


@contextmanager
def _refusing_waits() -> Iterator[None]:
    if DRY:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()

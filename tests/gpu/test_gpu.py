"""On a real GPU; skipped without one. The hot loop must not wait for the device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lockstep.data.loading.augment import Augmentation
from lockstep.training.config.run_spec import read_spec
from lockstep.training.rank.process_group import Group
from lockstep.training.session.build import build_session, build_training
from lockstep.training.session.step_seeding import StepSeeder
from tests.helpers.launch import Launch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
SMALL = ("data.args.train=2003", "data.args.val=503", "train.epochs=2")


@pytest.fixture(autouse=True)
def visible_gpus(own_folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


def _train(launch: Launch, *settings: str) -> dict[str, Any]:
    result = launch("train", *SMALL, *settings, "--json")
    assert result.status == 0, result.err
    return result.document


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "fp16", "fp64"])
def test_every_precision_trains_on_a_gpu(launch: Launch, precision: str) -> None:
    document = _train(launch, "--gpus", "1", f"train.precision={precision}")
    assert document["metrics"]["val/count"] == 503
    assert document["metrics"]["val/accuracy"] > 0.5


def test_a_gpu_reads_the_same_samples_as_the_processor(launch: Launch) -> None:
    gpu, cpu = (_train(launch, *where, "train.precision=fp64") for where in (("--gpus", "1"), ("--cpu", "1")))
    assert gpu["order_sha256"] == cpu["order_sha256"]
    assert gpu["consumed_digest"] == cpu["consumed_digest"]
    assert gpu["metrics"]["val/loss"] == pytest.approx(cpu["metrics"]["val/loss"], rel=1e-6)


def test_a_run_of_the_gpu_is_evaluated_on_the_processor(launch: Launch) -> None:
    trained = _train(launch, "--gpus", "1", "train.precision=fp32")
    result = launch("eval", trained["run"], "--cpu", "2", "--json")
    assert result.document["metrics"]["val/accuracy"] == pytest.approx(
        trained["metrics"]["val/accuracy"], abs=0.005
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_does_not_wait_for_the_gpu(launch: Launch, tmp_path: Path, precision: str) -> None:
    planned = launch("train", *SMALL, f"train.precision={precision}", "--gpus", "1", "--dry-run", "--json")
    (tmp_path / "spec.json").write_text(json.dumps(planned.document["spec"]))
    session = build_session(read_spec(tmp_path / "spec.json"), Group(0, 0, 1, torch.device("cuda", 0)))
    training = build_training(session)
    randomness = StepSeeder(0, 0, session.group.device)
    batches = list(session.train_feed.fetch(session.train_work(0, 0)))[:8]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step, batch in enumerate(batches):
            randomness.reseed(step)
            training.schedule.set(step)
            training.stepper.run(batch, session.batches.size(step), batch.indices.size)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert len(batches) == 8
    assert all(bool(parameter.isfinite().all()) for parameter in session.model.parameters())


@pytest.mark.parametrize("augment", [Augmentation(4, flip=True, seed=1), Augmentation(0, flip=True, seed=1)])
def test_images_are_augmented_on_the_gpu_as_on_the_processor_and_without_waiting(
    augment: Augmentation,
) -> None:
    images = torch.arange(64 * 3 * 32 * 32, dtype=torch.int32).view(64, 3, 32, 32)
    on_gpu, indices = images.cuda(), np.arange(64)
    augment(on_gpu, 0, indices)  # loads the kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        augmented = augment(on_gpu, 1, indices)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(augmented.cpu(), augment(images, 1, indices))

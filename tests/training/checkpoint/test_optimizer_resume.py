"""Any optimizer goes on from a checkpoint to the bit, with groups, freezing and clipping, in one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lockstep.training.checkpoint.state import (
    Progress,
    build_state,
    model_tensors,
    optimizer_tensors,
    restore,
)
from lockstep.training.checkpoint.storage import CheckpointContents, read_checkpoint, write_checkpoint
from lockstep.training.session.build import build_training
from lockstep.training.session.sample_audit import Account
from lockstep.training.session.training import Training
from tests.end_to_end.test_optimizers import CODE, CONFIG
from tests.helpers.sessions import open_session

GROUPS = "groups: [{max_ndim: 1, weight_decay: 0.0}, {match: ^2, until: 4, after: 9}]"
VARIANTS = {
    "own": [],
    "nadam": [f"optimizer={{use: nadam, weight_decay: 0.1, {GROUPS}}}"],
    "sgd": [f"optimizer={{use: sgd, momentum: 0.9, clip_norm: 0.2, weight_decay: 0.1, {GROUPS}}}"],
    "fp16": ["optimizer={use: adam, clip_norm: 0.2}", "train.precision=fp16"],
}


def _build(folder: Path, settings: list[str]) -> Training:
    (folder / "own.py").write_text(CODE)
    (folder / "own.yaml").write_text(CONFIG)
    return build_training(open_session(folder / "own.yaml", settings))


def _run(training: Training, first: int, last: int) -> None:
    session = training.session
    for step, fetched in enumerate(session.train_feed.fetch(session.train_work(0, first)), start=first):
        if step == last:
            break
        training.begin_step(step)
        training.stepper.run(fetched, session.batches.size(step), fetched.indices.size)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cut", [2, 6])
def test_a_run_that_was_cut_goes_on_to_the_bit(tmp_path: Path, variant: str, cut: int) -> None:
    settings = VARIANTS[variant]
    whole, resumed = _build(tmp_path, settings), _build(tmp_path, settings)
    _run(whole, 0, cut)
    state = build_state(whole, Progress(step=cut, epoch_step=cut), Account(), {})
    contents = CheckpointContents(model_tensors(whole), optimizer_tensors(whole), state, {}, {})
    path = write_checkpoint(tmp_path / "checkpoints", contents)
    assert ("optimizer" in json.loads((path / "state.json").read_text())) == (variant == "own")
    restore(resumed, read_checkpoint(path))
    for training in (whole, resumed):
        _run(training, cut, 10)
    for one, other in (
        (model_tensors(whole), model_tensors(resumed)),
        (optimizer_tensors(whole), optimizer_tensors(resumed)),
    ):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)

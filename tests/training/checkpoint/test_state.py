"""What is said of a run that goes on with another cut of its batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.training.checkpoint.state import (
    Progress,
    build_state,
    model_tensors,
    optimizer_tensors,
    restore,
)
from lockstep.training.checkpoint.storage import CheckpointContents
from lockstep.training.session.build import build_training
from lockstep.training.session.sample_audit import Account
from lockstep.training.session.training import Training
from tests.helpers.evaluation_models import EVALUATION_CODE, EVALUATION_CONFIG
from tests.helpers.sessions import open_session
from tests.helpers.user_project import USER_CODE

CUT = "max_micro_batch was None and is 16: the last bits may differ"


def _build(folder: Path, *settings: str) -> Training:
    more = "\ndef dropping():\n    return nn.Sequential(nn.Linear(7, 8), nn.Dropout(), nn.Dropout(), nn.Linear(8, 2))\n"
    (folder / "own.py").write_text(USER_CODE + EVALUATION_CODE + more)
    (folder / "own.yaml").write_text(EVALUATION_CONFIG)
    return build_training(open_session(folder / "own.yaml", list(settings)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["model.use=./own.py:model"], None),
        (["model.use=./own.py:dropping"], "dropout"),
        (["model.use=./own.py:Vae", "loss.use=./own.py:elbo", "metrics=[]"], "random draws"),
        (["model.use=./own.py:Normed", "model.args.norm=BatchNorm1d"], "batch norm"),
    ],
)
def test_what_depends_on_the_cut_into_micro_batches_differs_not_only_in_the_last_bits(
    tmp_path: Path, settings: list[str], said: str | None
) -> None:
    """Each micro-batch goes through all layers, so that what is drawn third may be another layer's."""
    before = _build(tmp_path, *settings)
    state = build_state(before, Progress(), Account(), {})
    contents = CheckpointContents(model_tensors(before), optimizer_tensors(before), state, {}, {})
    assert restore(_build(tmp_path, *settings), contents).notes == []
    differs = f"the model has {said}: from here on its results differ, not only in the last bits"
    cut = restore(_build(tmp_path, *settings, "data.max_micro_batch=16"), contents)
    assert cut.notes == [CUT, *([differs] if said else [])]

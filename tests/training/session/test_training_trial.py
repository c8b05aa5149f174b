"""What the first pass shows of a model: what makes it depend on the number of processes, and what is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lockstep.data.common.errors import UsageError
from lockstep.training.session.build import build_training
from lockstep.training.session.session import Session
from lockstep.training.session.training import Training
from tests.helpers.evaluation_models import EVALUATION_CODE, EVALUATION_CONFIG
from tests.helpers.sessions import open_session
from tests.helpers.user_project import USER_CODE

TAIL = "data.batch_size=2"  # of 203 samples: the last one is alone
OWN = "buffers that learn from each process's own samples"
COUNTING = """
def dropping():
    return nn.Sequential(nn.Linear(7, 8), nn.Dropout(0.5), nn.Linear(8, 2))

class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(7, 2)
        self.register_buffer("calls", torch.tensor([0.0, torch.nan]))  # of what never happened, no number
    def forward(self, x):
        self.calls += 1
        return self.last(x)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(USER_CODE + EVALUATION_CODE + COUNTING)
    (tmp_path / "own.yaml").write_text(EVALUATION_CONFIG)
    return tmp_path / "own.yaml"


def _build(config: Path, *settings: str) -> Training:
    return build_training(open_session(config, list(settings)))


@pytest.mark.parametrize("how", ["train", "forward"])
def test_a_frozen_batch_norm_is_no_batch_norm(config: Path, how: str) -> None:
    training = _build(config, "model.use=./own.py:Frozen", f"model.args.how={how}", TAIL)
    assert training.depends_on_world == []
    assert training.session.model.training


@pytest.mark.parametrize(
    "settings",
    [
        ["model.use=./own.py:Frozen", "model.args.how=nothing"],
        ["model.use=./own.py:Normed", "model.args.norm=BatchNorm1d"],
        ["model.use=./own.py:Mixing"],
    ],
)
def test_a_batch_norm_that_trains_needs_two_samples(config: Path, settings: list[str]) -> None:
    with pytest.raises(UsageError, match="the model has batch norm"):
        _build(config, *settings, TAIL)
    assert _build(config, *settings).depends_on_world == ["batch norm"]


@pytest.mark.parametrize(
    ("settings", "depends"),
    [
        (["model.use=./own.py:model"], []),
        (["model.use=./own.py:dropping"], ["dropout"]),
        (["model.use=./own.py:Counting"], []),
        (["model.use=./own.py:Vae", "loss.use=./own.py:elbo", "metrics=[]"], ["random draws"]),
        (["model.use=./own.py:Drawing", "model.args.source=numpy global"], ["random draws"]),
        (["model.use=./own.py:Codebook"], [f"{OWN} (codes)"]),
        (["model.use=./own.py:Writing"], [f"{OWN} (mean)"]),
        (["model.use=./own.py:OwnNorm"], [f"{OWN} (running_mean, running_var)"]),
    ],
)
def test_what_depends_on_the_number_of_processes_is_named(
    config: Path, settings: list[str], depends: list[str]
) -> None:
    assert _build(config, *settings).depends_on_world == depends


def test_a_buffer_that_learns_and_that_no_checkpoint_has_is_said(config: Path) -> None:
    lost = _build(config, "model.use=./own.py:Codebook", "model.args.persistent=false")
    (note,) = lost.notes
    assert note.startswith("warning: codes learns, but no checkpoint has it")
    assert _build(config, "model.use=./own.py:Codebook").notes == []


def test_a_rank_without_a_sample_computes_two_that_differ(config: Path) -> None:
    session: Session = open_session(config, ["data.batch_size=3"])
    session = Session(**{**vars(session), "group": type(session.group)(0, 0, 4, session.group.device)})
    work = next(session.train_work(0, 0))
    assert work.stand_in
    assert np.unique(work.indices).size == 2


def test_a_step_that_never_calls_the_model_is_not_said_to_be_compiled(own: Path) -> None:
    code = "\ndef by_parts(model, batch):\n    out = model[2](model[1](model[0](batch[0])))\n"
    code += "    return nn.functional.cross_entropy(out, batch[1], reduction='none')\n"
    (own / "own.py").write_text((own / "own.py").read_text() + code)
    settings = ["step=./own.py:by_parts", "metrics=[]"]
    with pytest.raises(UsageError, match="nothing of it would be compiled"):
        build_training(open_session(own / "own.yaml", [*settings, "train.compile=true"]))
    build_training(open_session(own / "own.yaml", settings))

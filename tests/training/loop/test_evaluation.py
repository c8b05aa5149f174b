"""Evaluation by ranks that are computed one after the other: whatever a model does, the cut does not matter."""

from __future__ import annotations

import copy
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lockstep.data.common.errors import TrainingError
from lockstep.data.loading import Work
from lockstep.training.loop import evaluation
from lockstep.training.loop.evaluation import Views, _Pass, _rank_sums, evaluate
from lockstep.training.losses.objective import LossObjective
from lockstep.training.metrics.worst_samples import WorstSamples
from lockstep.training.rank.process_group import Group
from lockstep.training.session.build import build_training
from lockstep.training.session.evaluation_trial import (
    EvaluationTrial,
    evaluation_mode,
    evaluation_notes,
    evaluation_row,
    try_evaluation,
)
from lockstep.training.session.session import Session
from tests.helpers.evaluation_models import EVALUATION_CASES, EVALUATION_CODE, EVALUATION_CONFIG
from tests.helpers.sessions import ALONE, open_session
from tests.helpers.threaded_ranks import threaded_groups
from tests.helpers.user_project import USER_CODE

WORLDS = (1, 2, 3, 7)
DRAWN = {
    "a vae": "torch's generator",
    "permutation of a batch": "torch's generator",
    "numpy global": "NumPy's generator",
    "python global": "Python's random",
    "own torch": "torch",
    "own numpy": "numpy",
    "own legacy": "legacy",
    "own python": "python",
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(USER_CODE + EVALUATION_CODE)
    (tmp_path / "own.yaml").write_text(EVALUATION_CONFIG)
    return tmp_path / "own.yaml"


def _try(session: Session, *, repeat: bool = False) -> EvaluationTrial:
    with evaluation_mode(session) as (draws, kept):
        return try_evaluation(session, draws, kept, repeat=repeat)


def _sums(config: Path, name: str, world: int, *, fixed: bool) -> tuple[torch.Tensor, bool]:
    """Add up what each rank computes, and say whether one ended because the cut matters."""
    found = []
    for rank in range(world):
        session = open_session(config, EVALUATION_CASES[name], Group(rank, rank, world, torch.device("cpu")))
        with evaluation_mode(session) as (draws, kept):
            found.append(_rank_sums(session, lambda: False, _Pass(draws, kept, fixed)))
    return torch.stack([sums.counted() for sums, _, _ in found]).sum(0), any(
        depends for _, _, depends in found
    )


@pytest.mark.parametrize("name", ["numpy global", "own torch", "mixing", "writing", "a vae", "a table"])
def test_a_fixed_cut_gives_the_same_on_any_number_of_ranks(config: Path, name: str) -> None:
    one, *others = [_sums(config, name, world, fixed=True)[0] for world in WORLDS]
    assert int(one[0]) == 101
    for other in others:
        torch.testing.assert_close(other, one, rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", DRAWN)
def test_draws_are_noticed_and_named(config: Path, name: str) -> None:
    session = open_session(config, EVALUATION_CASES[name])
    trial = _try(session, repeat=True)
    assert trial.draws == (DRAWN[name],)
    assert trial.depends_on_cut
    assert not trial.unrepeatable
    (note,) = evaluation_notes(trial, session.fixed_batch_size)
    assert f"draws from {DRAWN[name]}" in note
    assert "at most 29 samples" in note


def test_a_draw_that_no_trial_sees_and_a_late_write_end_a_pass(config: Path) -> None:
    session = open_session(config, EVALUATION_CASES["rare"])
    assert not _try(session).depends_on_cut
    assert _sums(config, "rare", 2, fixed=False)[1]
    assert _sums(config, "writing", 2, fixed=False)[1]
    assert not _sums(config, "auxiliary outputs", 2, fixed=False)[1]


def test_writes_to_buffers_are_noticed_and_leave_nothing_behind(config: Path) -> None:
    session = open_session(config, EVALUATION_CASES["writing"])
    before = copy.deepcopy(session.model.state_dict())
    trial = _try(session)
    assert set(trial.changed) == {"mean", "calls"}
    evaluate(session)
    assert all(torch.equal(value, before[name]) for name, value in session.model.state_dict().items())


def test_mixed_samples_are_noticed(config: Path) -> None:
    trial = _try(open_session(config, EVALUATION_CASES["mixing"]))
    assert trial.mixing
    assert trial.depends_on_cut
    assert "depends on the others of its batch" in evaluation_notes(trial, 7)[0]


@pytest.mark.parametrize("name", ["batch norm", "own norm", "auxiliary outputs", "a table", "codebook"])
def test_other_models_are_cut_as_suits_the_ranks(config: Path, name: str) -> None:
    trial = _try(open_session(config, EVALUATION_CASES[name]), repeat=True)
    assert not trial.depends_on_cut
    assert evaluation_notes(trial, 7) == []


def test_training_goes_on_as_if_nothing_had_been_evaluated(config: Path) -> None:
    session = open_session(config, EVALUATION_CASES["numpy global"])
    session.model.train()
    session.model.last.eval()  # as a user's own train() leaves it
    np.random.seed(5)  # noqa: NPY002 - what a user's code may draw from
    expected = np.random.rand(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    first, second = evaluate(session), evaluate(session)
    assert first == second
    assert np.array_equal(np.random.rand(3), expected)  # noqa: NPY002
    assert session.model.training
    assert not session.model.last.training


def test_samples_are_counted_exactly_whatever_type_the_loss_has(config: Path) -> None:
    session = open_session(config, EVALUATION_CASES["auxiliary outputs"])
    session.model = session.module = nn.Linear(7, 2)
    session.objective = LossObjective(lambda output, _: output.sum(1).bfloat16())
    row = evaluation_row(session, (torch.ones(257, 7), torch.zeros(257, dtype=torch.long)), 257)
    assert float(row[1]) == 257.0


class Growing(nn.Module):
    """What is kept of an evaluation must be of use to a backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.table = torch.empty(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            self.table = torch.arange(2, dtype=torch.float64)
        return self.scale * self.table.expand(len(x), 2)


def test_a_table_of_an_evaluation_serves_training(config: Path) -> None:
    session = open_session(config, EVALUATION_CASES["auxiliary outputs"])
    session.model = session.module = Growing()
    assert evaluate(session)
    session.model.train()(torch.ones(3, 7)).sum().backward()
    assert float(session.model.scale.grad) == 3.0


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x[:, :2] * self.calls


def test_state_that_nobody_knows_of_is_said(config: Path) -> None:
    session = open_session(config, EVALUATION_CASES["auxiliary outputs"])
    session.model = session.module = Counting()
    trial = _try(session, repeat=True)
    assert trial.unrepeatable
    assert any("no number of its evaluation can be repeated" in note for note in evaluation_notes(trial, 7))


def test_metrics_see_what_the_model_returns_in_evaluation(config: Path) -> None:
    build_training(open_session(config, EVALUATION_CASES["auxiliary outputs"]))
    with pytest.raises(TrainingError, match="do not fit in evaluation"):
        build_training(open_session(config, ["model.use=./own.py:model", "metrics=['./own.py:misfit']"]))


STATISTICS = """
import torch

def per_class(output, target):
    found = output.argmax(1)
    hits = torch.zeros(2, dtype=torch.int64).scatter_add_(0, target, (found == target).long())
    return {"hits": hits, "all": torch.bincount(target, minlength=2), "norm": output.square().sum(0)}

def recalls(total):
    return {"worst": (total["hits"] / total["all"]).min(), "norm": total["norm"].sum().sqrt()}
"""
MEASURED = [
    "model.use=./own.py:model",
    "metrics=[f1, confusion_matrix, {use: ./own.py:per_class, finish: ./own.py:recalls}]",
]


def _in_threads(config: Path, settings: list[str]) -> list[tuple[dict[str, float] | None, Views]]:
    """What each of two ranks says of the same weights."""
    found: dict[int, tuple[dict[str, float] | None, Views]] = {}

    def rank(session: Session) -> None:
        views: Views = {}
        found[session.group.rank] = evaluate(session, views=views), views

    sessions = [open_session(config, settings, group) for group in threaded_groups()]
    threads = [threading.Thread(target=rank, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[0], found[1]]


@pytest.mark.parametrize("samples", [101, 1])
def test_statistics_and_what_is_kept_are_the_same_on_two_ranks(config: Path, samples: int) -> None:
    (config.parent / "own.py").write_text(USER_CODE + EVALUATION_CODE + STATISTICS)
    settings = [*MEASURED, f"data.args.m={samples}"]  # of one sample, a rank has none
    session, views = open_session(config, settings), Views()
    one = evaluate(session, views=views)
    assert one is not None
    assert set(one) == {"val/loss", "val/f1", "val/per_class/worst", "val/per_class/norm", "val/count"}
    matrix = torch.tensor(views["val"]["confusion_matrix"])
    assert matrix.sum() == samples
    if samples > 1:
        assert one["val/per_class/worst"] == pytest.approx(float((matrix.diagonal() / matrix.sum(1)).min()))
    for numbers, kept in _in_threads(config, settings):
        assert numbers == pytest.approx(one, rel=1e-13, nan_ok=True)
        assert kept["val"]["confusion_matrix"] == views["val"]["confusion_matrix"]
        for mine, its in zip(kept["val"]["worst"], views["val"]["worst"], strict=True):
            assert (mine["index"], mine["loss"]) == (its["index"], pytest.approx(its["loss"], rel=1e-13))
            assert mine["predicted"] == its["predicted"]
    worst = views["val"]["worst"]
    work = Work(np.array([sample["index"] for sample in worst]), [len(worst)])
    inputs, _ = next(session.val_feeds["val"].fetch(iter([work]))).micro[0]
    with torch.no_grad():
        assert [sample["predicted"] for sample in worst] == session.model.eval()(inputs).argmax(1).tolist()


def test_the_worst_samples_are_those_of_the_largest_loss_and_of_equal_ones_the_first() -> None:
    losses = torch.arange(101, dtype=torch.float64).remainder(7)
    losses[50] = float("nan")
    worst = WorstSamples(torch.device("cpu"))
    for start in range(0, 101, 10):
        rows = np.arange(start, min(start + 10, 101))
        worst.add(losses[start : start + 10], rows, torch.from_numpy(rows % 3) if start < 50 else None)
    found = worst.everyone(ALONE)
    expected = sorted(range(101), key=lambda row: (row != 50, -float(losses[row]), row))[:16]
    assert [entry["index"] for entry in found] == expected
    assert [entry.get("predicted") for entry in found] == [row % 3 if row < 50 else None for row in expected]


UNREPEATABLE = """
class Unrepeatable(torch.utils.data.Dataset):
    def __init__(self, n):
        self.n, self.own = n, np.random.default_rng(0)
    def __len__(self):
        return self.n
    def __getitem__(self, row):
        return torch.from_numpy(self.own.normal(size=7)), torch.tensor(row % 2)

def unrepeatable(n=203, m=101):
    return {"train": Unrepeatable(n), "val": Unrepeatable(m)}
"""


def test_samples_that_are_others_each_time_are_not_the_models_doing(config: Path) -> None:
    (config.parent / "own.py").write_text(USER_CODE + EVALUATION_CODE + UNREPEATABLE)
    session = open_session(config, [*EVALUATION_CASES["own norm"], "data.use=./own.py:unrepeatable"])
    for name in ("train", "val"):
        assert any(f"samples of {name} are others when" in note for note in session.spec.facts.all_notes)
    trial = _try(session)
    assert trial.other_samples
    assert not trial.depends_on_cut
    (note,) = evaluation_notes(trial, 7)
    assert "the validation samples are others each time they are read" in note


def test_ranks_that_see_something_else_cut_alike(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on two kinds of device, where one of them is beyond the tolerance by a little."""
    settings, cuts = EVALUATION_CASES["own norm"], {}

    def seen(session: Session, *_: object) -> EvaluationTrial:
        return EvaluationTrial(apart=float(session.group.rank), tolerance=0.5)

    def cut(session: Session, _: object, a_pass: _Pass) -> None:
        cuts[session.group.rank] = a_pass.fixed

    monkeypatch.setattr(evaluation, "try_evaluation", seen)
    monkeypatch.setattr(evaluation, "_sums", cut)
    assert [numbers for numbers, _ in _in_threads(config, settings)] == [None, None]
    assert cuts == {0: True, 1: True}

"""The zoo: each case ends as its entry says on 1, 2 and 3 processes, with and without workers, and after a kill."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.killed_runs import run_ranks
from tests.helpers.launch import JobServer, Launch, Result, job_server, run_folder
from tests.helpers.run_records import check_equal_training
from tests.zoo.case import Case, Refused, Trains, write_project
from tests.zoo.cases import CASES

SEED = 14
EXACT = 1e-12  # of numbers that are equal but for the order of their sums, in fp64
TRAINED = [case for case in CASES if isinstance(case.end, Trains)]
REFUSED = [case for case in CASES if isinstance(case.end, Refused)]
SAMPLE = 1  # cases of each table in the default run
STEPS = 6  # at least, of any case


def _sample(cases: list[Case]) -> list[Any]:
    """Mark all but a seeded sample of the cases for the exhaustive run."""
    chosen = random.Random(SEED).sample(cases, min(SAMPLE, len(cases)))
    return [
        pytest.param(case, id=case.name, marks=[] if case in chosen else [pytest.mark.exhaustive])
        for case in cases
    ]


class Project:
    """A case's folder, and the commands of its user."""

    def __init__(self, case: Case, launch: Launch, folder: Path) -> None:
        write_project(case, folder)
        self.case, self.launch, self.folder = case, launch, folder

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> Result:
        return self.launch(*arguments, "--json", cwd=self.folder, env=env)

    def train(self, name: str, world: int, *settings: str, env: Mapping[str, str] | None = None) -> Result:
        given = ("exp.yaml", *self.case.settings, *settings, "--name", name, "--cpu", str(world))
        return self.run("train", *given, env=env)


def _document(result: Result) -> dict[str, Any]:
    assert result.status == 0, result.err
    return result.document


def _check_metrics(document: dict[str, Any], expected: Mapping[str, float], tolerance: float) -> None:
    found = {name: document["metrics"][name] for name in expected}
    assert found == pytest.approx(expected, rel=tolerance, abs=tolerance)


def _check_evaluation(project: Project, name: str, world: int, trained: dict[str, Any]) -> None:
    """``launch eval`` says what was logged."""
    evaluated = _document(project.run("eval", name, "--cpu", str(world)))["metrics"]
    logged = {name: value for name, value in trained["metrics"].items() if name in evaluated}
    assert logged
    assert evaluated == pytest.approx(logged, rel=EXACT, abs=EXACT)


def test_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", _sample(TRAINED))
def test_a_case_trains_with_these_numbers_on_one_and_more_processes(
    case: Case, launch: Launch, tmp_path: Path
) -> None:
    assert isinstance(case.end, Trains)
    project = Project(case, launch, tmp_path / "project")
    alone = project.train("one", 1)
    one = _document(alone)
    for words in case.notes:
        assert words in alone.err
    _check_metrics(one, case.end.metrics, case.end.tolerance)
    many = random.Random(case.name).choice((2, 3))
    check_equal_training(one, _document(project.train("many", many)), EXACT)
    _check_evaluation(project, "one", many, one)


@pytest.fixture(scope="module")
def ranks() -> Iterator[JobServer]:
    with job_server("killed_ranks", OMP_WAIT_POLICY="PASSIVE", WANDB_MODE="disabled") as server:
        yield server


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", TRAINED, ids=lambda case: case.name)
def test_a_case_killed_and_resumed_ends_as_the_undisturbed(
    case: Case, launch: Launch, ranks: JobServer, tmp_path: Path
) -> None:
    project = Project(case, launch, tmp_path / "project")
    draw = random.Random(case.name)
    for workers in (0, 2):
        asked = project.train("plan", 1, f"data.workers={workers}", "--dry-run")
        spec = json.dumps(_document(asked)["spec"])
        for world in (1, 2, 3):
            name = f"{world}-ranks-{workers}-workers"
            undisturbed = run_ranks(ranks, tmp_path / name, spec, world, None)
            killed = run_ranks(ranks, tmp_path / f"{name}-killed", spec, world, draw.randint(1, STEPS))
            assert killed == undisturbed


@pytest.mark.parametrize("case", _sample(REFUSED))
def test_a_case_is_refused_before_a_step(case: Case, launch: Launch, tmp_path: Path) -> None:
    assert isinstance(case.end, Refused)
    project = Project(case, launch, tmp_path / "project")
    for world, workers in ((1, 0), (2, 2)):
        name = f"on-{world}"
        refused = project.train(name, world, f"data.workers={workers}")
        assert refused.status == case.end.status, refused.err
        for words in case.end.words:
            assert words in " ".join(refused.err.split())
        assert "Traceback" not in refused.err
        record = run_folder(name) / "metrics.jsonl"
        assert not record.exists() or '"event": "step"' not in record.read_text()

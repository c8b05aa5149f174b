"""What ``launch check`` says of a schedule, planted mistakes included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.training.check.finding import Finding
from lockstep.training.check.schedule_checks import check_learning_rates
from lockstep.training.config.run_config import RunConfig, RunSpec

OWN = """
import math
calls = []
def fair(step, total): return 1 - step / total
def counted(step, total):
    calls.append(step)
    return 1 / len(calls)
def nothing(step, total): return 0.0
def below(step, total): return 0.5 - step
def lost(step, total): return math.sqrt(step - 3)
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def _found(base: Path, facts: DatasetInfo, schedule: dict[str, Any], **train: Any) -> Finding:
    sections = {"data": {"batch_size": 1}, "schedule": schedule, "train": {"epochs": 4, **train}}
    config = RunConfig.model_validate(sections)
    return check_learning_rates(RunSpec("a", config, base, facts, "cpu", ""), nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            {"use": "./own.py:counted"},
            "./own.py:counted returned 1 for step=0, and 0.025 when it was asked again",
        ),
        ({"use": "./own.py:nothing"}, "the learning rate is 0 from the first step to the last"),
        ({"use": "./own.py:below"}, "./own.py:below(step=1, total=20) returned -0.5"),
        ({"use": "./own.py:lost"}, "./own.py:lost(step=0, total=20) failed"),
        ({"use": "./own.py:absent"}, "has no 'absent'"),
        ({"warmup": "4 epochs"}, "the warm-up of 20 steps is not over before the run is"),
        ({"use": "exponential", "factor": 1e308}, "the learning rate of step 3 is inf"),
    ],
)
def test_a_schedule_that_does_not_train_is_found(
    base: Path, pictures: DatasetInfo, schedule: dict[str, Any], message: str
) -> None:
    found = _found(base, pictures, schedule)
    assert (found.verdict, message in found.what) == ("FAIL", True), found.what
    assert found.advice


@pytest.mark.parametrize(
    ("schedule", "train", "steps"),
    [
        ({"use": "./own.py:fair"}, {}, ["0", "5", "10", "15", "19"]),
        ({"use": "cosine", "warmup": "3 epochs"}, {}, ["0", "5", "10", "15", "19"]),
        ({"use": "one_cycle", "rise": 8}, {}, ["0", "5", "7", "10", "15", "19"]),
        ({"use": "plateau"}, {"steps": 9}, ["0", "2", "4", "6", "8"]),
    ],
)
def test_a_schedule_is_shown_where_it_turns(
    base: Path, pictures: DatasetInfo, schedule: dict[str, Any], train: dict[str, Any], steps: list[str]
) -> None:
    found = _found(base, pictures, schedule, **train)
    assert found.verdict == "PASS", found.what
    assert list(found.rows[0]["rates"]) == steps

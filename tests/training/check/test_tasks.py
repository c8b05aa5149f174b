"""The one process that looks at a user's code: each planted mistake is seen, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.data.common.errors import TrainingError
from lockstep.training.check.probe_batch import split_sizes
from lockstep.training.rank.process_group import Group
from tests.helpers.check_mistakes import MISTAKES, write_project
from tests.helpers.check_probe import not_passed, probe_project

SEEN_LATER = {"a length that lies"}  # before a rank is started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_project(tmp_path / "own")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_honest_folder_has_nothing_to_note(folder: Path, alone: Group, workers: int) -> None:
    answer = probe_project(folder, alone, [f"data.workers={workers}"])
    assert not_passed(answer) == {}
    assert (answer["precision"], answer["still"], answer["stilled"]) == ("fp64", "modules", "")
    assert answer["evaluate"]
    assert not answer["blocked"]


@pytest.mark.parametrize("name", [name for name in MISTAKES if name not in SEEN_LATER])
def test_a_mistake_is_seen_by_its_check_alone(folder: Path, alone: Group, name: str) -> None:
    mistake = MISTAKES[name]
    found = not_passed(probe_project(folder, alone, mistake.settings))
    assert list(found) == [mistake.check]
    assert found[mistake.check]["verdict"] == mistake.verdict
    assert mistake.words in found[mistake.check]["what"]


def test_a_length_that_lies_is_told_when_the_data_is_prepared(folder: Path, alone: Group) -> None:
    mistake = MISTAKES["a length that lies"]
    with pytest.raises(TrainingError, match=mistake.words) as caught:
        probe_project(folder, alone, mistake.settings)
    assert "IndexError" in caught.value.message
    assert caught.value.hint == "make __len__ tell the truth"


def test_a_label_above_the_models_outputs_blocks_the_rest(folder: Path, alone: Group) -> None:
    code = folder.parent / "exp.py"
    code.write_text(code.read_text().replace("y = (x.sum(1) > 0).long()", "y = (x.sum(1) > 0).long() * 2"))
    answer = probe_project(folder, alone, ["loss.use=cross_entropy", "metrics=[]"])
    assert list(not_passed(answer)) == ["labels"]
    assert "the model has 2 outputs" in not_passed(answer)["labels"]["what"]
    assert answer["blocked"]


def test_code_that_computes_in_fp32_only_is_looked_at_in_the_runs_precision(
    folder: Path, alone: Group
) -> None:
    code = folder.parent / "exp.py"
    code.write_text(
        code.read_text() + "\ndef weighted(output, target):\n"
        '    return nn.functional.cross_entropy(output, target, torch.ones(2), reduction="none")\n'
    )
    answer = probe_project(folder, alone, ["loss.use=./exp.py:weighted"])
    assert not_passed(answer) == {}
    assert answer["precision"] == "auto"


def test_dropout_and_batch_norm_are_noted_and_named(folder: Path, alone: Group) -> None:
    code = folder.parent / "exp.py"
    code.write_text(
        code.read_text() + "\ndef normed():\n    return nn.Sequential("
        "nn.Linear(7, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))\n"
    )
    answer = probe_project(folder, alone, ["model.use=./exp.py:normed"])
    assert list(not_passed(answer)) == ["model"]
    assert answer["stilled"] == "without batch norm and dropout"


def test_the_learning_rates_are_those_of_the_whole_run(folder: Path, alone: Group) -> None:
    answer = probe_project(folder, alone, [])
    rows = next(found for found in answer["findings"] if found["check"] == "learning rate")["rows"]
    assert [row["parameters"] for row in rows] == ["all others", "bias$"]
    assert [row["tensors"] for row in rows] == [2, 2]
    assert [row["numbers"] for row in rows] == [7 * 11 + 11 * 2, 11 + 2]
    assert list(rows[0]["rates"]) == ["0", "4", "8", "12", "15"]
    assert rows[0]["rates"]["0"] == 0.01
    assert rows[1]["rates"]["8"] == pytest.approx(0.01)


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 12])
def test_parts_are_the_whole(samples: int) -> None:
    sizes = split_sizes(samples)
    assert sum(sizes) == samples
    assert min(sizes) >= 1

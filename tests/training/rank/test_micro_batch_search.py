"""What a rank writes down when its memory runs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.training.config.run_config import RunConfig, RunSpec
from lockstep.training.rank.micro_batch_search import IN_EVALUATION, MicroBatchSearch, found_micro_batch


def _search(folder: Path, facts: DatasetInfo, limit: Any = "auto") -> MicroBatchSearch:
    config = RunConfig.model_validate({"data": {"batch_size": 5, "max_micro_batch": limit}})
    return MicroBatchSearch(RunSpec("run", config, folder, facts, "cpu", ""), folder, 1)


def _run_out(search: MicroBatchSearch, *notes: str) -> None:
    error = torch.OutOfMemoryError("no room")
    for note in notes:
        error.add_note(note)
    with pytest.raises(torch.OutOfMemoryError), search.halving():
        raise error


def test_it_is_halved_until_one_sample_does_not_fit(tmp_path: Path, pictures: DatasetInfo) -> None:
    found = []
    for _ in range(4):
        search = _search(tmp_path, pictures)
        _run_out(search)
        found.append((search.spec.config.data.micro_limit, found_micro_batch(tmp_path)))
    assert found == [(None, 3), (3, 2), (2, 1), (1, 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["micro_batch.json"]


def test_an_evaluation_tries_more_than_training(tmp_path: Path, pictures: DatasetInfo) -> None:
    _run_out(_search(tmp_path, pictures), IN_EVALUATION)
    assert found_micro_batch(tmp_path) == 10


def test_what_another_rank_has_found_since_is_not_raised(tmp_path: Path, pictures: DatasetInfo) -> None:
    first, second = _search(tmp_path, pictures), _search(tmp_path, pictures)
    _run_out(first)
    _run_out(second, IN_EVALUATION)
    assert found_micro_batch(tmp_path) == 3


@pytest.mark.parametrize("limit", [4, None])
def test_a_number_is_kept(tmp_path: Path, pictures: DatasetInfo, limit: int | None) -> None:
    _run_out(_search(tmp_path, pictures, limit))
    assert found_micro_batch(tmp_path) is None

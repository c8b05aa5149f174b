from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.launcher.train.run_evaluation import _own_folder


def _fail(run: Path, error: BaseException) -> None:
    with _own_folder(run) as attempt:
        attempt.mkdir()
        (attempt / "rank-0.log").write_text("what a rank has printed")
        raise error


def test_the_folder_of_an_evaluation_stays_after_its_end(tmp_path: Path) -> None:
    with _own_folder(tmp_path) as attempt:
        attempt.mkdir()
        (attempt / "eval.json").write_text("{}")
    assert [*tmp_path.iterdir()] == [attempt]


@pytest.mark.parametrize("error", [UsageError("there is no split nix", "choose one"), KeyboardInterrupt()])
def test_nothing_of_a_failed_evaluation_is_left_in_the_run(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        _fail(tmp_path, error)
    assert [*tmp_path.iterdir()] == []


def test_logs_that_a_failure_names_stay(tmp_path: Path) -> None:
    log = tmp_path / "eval-1" / "rank-0.log"
    with pytest.raises(TrainingError):
        _fail(tmp_path, TrainingError("rank 0: ValueError", f"the traceback is in {log}"))
    assert log.is_file()

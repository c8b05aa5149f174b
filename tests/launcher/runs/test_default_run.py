from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.runs.default_run import (
    can_resume,
    compared_runs,
    current_run,
    has_checkpoint,
    names_run,
    running_run,
)
from tests.helpers.run_folders import locked_by_another, make_run

_BEGAN = {"old": 100, "mid": 200, "new": 300}


@pytest.fixture
def runs() -> dict[str, Path]:
    """Three runs, each begun later than the one before, and a sweep's own folder that is newer than all."""
    made = {name: make_run(name) for name in ("new", "mid", "old")}
    for name, folder in made.items():
        os.utime(folder / "spec.json", (_BEGAN[name],) * 2)
    made["sweep"] = make_run("grid", kind="sweep")
    return made


def test_the_newest_run_is_meant_and_said(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert current_run() == "new"
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "note: no RUN was named: this is new, the newest\n")


def test_the_run_that_runs_comes_before_a_newer_one(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with locked_by_another(runs["old"]):
        assert current_run() == "old"
    assert "this is old, which is running" in capsys.readouterr().err


def test_only_runs_that_the_command_can_use_count(runs: dict[str, Path]) -> None:
    (runs["mid"] / "checkpoints" / "step_00000010").mkdir(parents=True)
    assert current_run(has_checkpoint) == "mid"
    (runs["new"] / "spec.json").rename(runs["new"] / "run.json")
    assert current_run(can_resume) == "mid"
    assert current_run() == "new"


def test_no_run_at_all_is_an_error_that_says_where_runs_are(tmp_path: Path) -> None:
    for choose in (current_run, lambda: running_run("stop"), lambda: compared_runs([])):
        with pytest.raises(UsageError, match=str(tmp_path / "runs")):
            choose()


def test_only_one_that_runs_is_ended_without_being_named(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="no run that is running"):
        running_run("cancel")
    with locked_by_another(runs["mid"]):
        assert running_run("cancel") == "mid"
        assert "this is mid, the only one that is running" in capsys.readouterr().err
        with locked_by_another(runs["old"]), pytest.raises(UsageError) as several:
            running_run("cancel")
    assert several.value.message.startswith("2 runs are running: ")
    assert several.value.hint.startswith("say which: `launch cancel ")


def test_of_a_sweep_that_goes_on_the_sweep_is_ended_never_one_of_its_points(runs: dict[str, Path]) -> None:
    (runs["sweep"] / "sweep.json").write_text(json.dumps({"points": [{}, {}]}))
    with locked_by_another(runs["sweep"]):
        assert running_run("stop") == "grid"  # between two points
        with locked_by_another(make_run("grid-001")):
            assert running_run("stop") == "grid"
            with locked_by_another(runs["old"]), pytest.raises(UsageError) as several:
                running_run("cancel")
    assert several.value.message == "2 runs are running: grid, old"
    with locked_by_another(runs["old"]):
        assert running_run("stop") == "old"


def test_a_point_of_a_job_array_stands_for_its_sweep_and_one_that_was_resumed_alone_for_itself(
    runs: dict[str, Path],
) -> None:
    with locked_by_another(make_run("grid-001")):
        for slurm, meant in ((True, "grid"), (False, "grid-001")):
            (runs["sweep"] / "sweep.json").write_text(json.dumps({"points": [{}, {}], "slurm": slurm}))
            assert running_run("stop") == meant


def test_the_newest_two_trainings_are_compared_the_older_first(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared_runs([]) == ("mid", "new")
    assert compared_runs(["new"]) == ("new", "mid")
    assert compared_runs(["old", "mid"]) == ("old", "mid")
    assert len(capsys.readouterr().err.splitlines()) == 3
    (runs["mid"] / "spec.json").rename(runs["mid"] / "run.json")
    assert compared_runs([]) == ("old", "new")


def test_a_word_names_a_run_or_does_not(runs: dict[str, Path]) -> None:
    assert names_run("new")
    assert names_run(str(runs["new"]))
    assert not any(map(names_run, (None, "newer", "-", "train.epochs=5", "x" * 5000, "a\0b")))

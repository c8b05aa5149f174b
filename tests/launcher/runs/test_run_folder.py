from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest

from lockstep.data.common.atomic_files import write_json
from lockstep.data.common.errors import DamagedError, UsageError
from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.launcher.machine.machine import Machine
from lockstep.launcher.machine.placement import choose_layout
from lockstep.launcher.runs.run_folder import ANY_RUN, create_run, find_run, read_outcome, runs_root
from lockstep.launcher.train.plan import LaunchPlan
from lockstep.launcher.train.run_files import build_run_spec, write_run_files
from lockstep.training.config.run_config import RunConfig
from lockstep.training.config.run_spec import read_spec
from tests.helpers.run_folders import make_run

FACTS = DatasetInfo(
    "x", "user", SplitInfo(7, {}), None, (2,), "float32", None, None, (), None, None, None, "f"
)


def _fill(folder: Path, config: RunConfig | None = None) -> None:
    world = choose_layout(Machine(2, (), "here"), None, 1)
    plan = LaunchPlan(folder.name, config or RunConfig(), FACTS, world)
    write_run_files(folder, plan, build_run_spec(plan, folder.parent, None), "data: {}\n")


def test_runs_lie_where_the_environment_says_else_in_the_folder_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs_root() == tmp_path / "runs"
    monkeypatch.chdir(tmp_path)
    for value in ("", None):
        monkeypatch.setenv("LOCKSTEP_RUNS", "") if value == "" else monkeypatch.delenv("LOCKSTEP_RUNS")
        assert runs_root() == tmp_path / "runs"


def test_a_run_folder_is_for_its_owner_alone() -> None:
    folder = create_run("first", "digits")
    assert (folder.name, stat.S_IMODE(folder.stat().st_mode)) == ("first", 0o700)


def test_runs_without_a_name_never_share_a_folder() -> None:
    folders = [create_run(None, "digits") for _ in range(20)]
    assert len(set(folders)) == 20
    assert all(folder.name.startswith("digits-") for folder in folders)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "-x", ".hidden", "a b", "a\nb", "ä", "x" * 101, "a\x00b", "x\n"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a name"):
        create_run(name, "digits")
    assert not any(runs_root().iterdir())


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "0", "x" * 100, "2024-01-01"])
def test_a_name_may_have_letters_digits_dots_dashes_and_underscores(name: str) -> None:
    assert create_run(name, "digits").name == name


def test_a_taken_name_says_by_what() -> None:
    folder = create_run("first", "digits")
    with pytest.raises(UsageError, match="taken by an unfinished run"):
        create_run("first", "digits")
    write_json(folder / "outcome.json", {"status": "done"})
    with pytest.raises(UsageError, match="taken by a run that is done"):
        create_run("first", "digits")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_root_that_cannot_be_written_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    monkeypatch.setenv("LOCKSTEP_RUNS", str(tmp_path / "locked" / "runs"))
    with pytest.raises(UsageError, match="LOCKSTEP_RUNS"):
        create_run("first", "digits")


def test_a_root_that_is_a_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UsageError, match="cannot be made here") as caught:
        create_run("first", "digits")
    assert "LOCKSTEP_RUNS" in caught.value.hint


def test_what_is_filled_in_is_what_a_rank_reads() -> None:
    folder = create_run("first", "digits")
    config = RunConfig.model_validate(
        {"optimizer": {"use": "sgd", "momentum": 0.9}, "data": {"args": {"n": 3}}}
    )
    _fill(folder, config)
    spec = read_spec(folder / "spec.json")
    assert (spec.run, spec.config, spec.facts, spec.base, spec.device) == (
        "first",
        config,
        FACTS,
        folder.parent,
        "cpu",
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["data"] == {"name": "x", "fingerprint": "f"}
    assert manifest["plan"]["processes"] == 1
    assert set(manifest["versions"]) >= {"torch", "numpy", "safetensors"}
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "manifest.json", "spec.json"]


def test_each_run_has_a_wandb_id_of_its_own() -> None:
    folders = [create_run(name, "digits") for name in ("a", "b")]
    for folder in folders:
        _fill(folder)
    assert len({read_spec(folder / "spec.json").wandb_id for folder in folders}) == 2


def test_no_value_of_the_environment_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "canary-in-the-environment")
    folder = create_run("first", "digits")
    _fill(folder)
    assert all("canary-in-the-environment" not in path.read_text() for path in folder.iterdir())


def test_a_run_is_found_by_its_name_and_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = create_run("first", "digits")
    _fill(folder)
    monkeypatch.chdir(folder.parent)
    assert {find_run("first"), find_run(str(folder)), find_run("./first")} == {folder}


def test_a_run_that_is_not_there_is_guessed() -> None:
    _fill(create_run("first-try", "digits"))
    with pytest.raises(UsageError, match="did you mean first-try"):
        find_run("first-tri")
    with pytest.raises(UsageError, match="no such run") as caught:
        find_run("nothing like it")
    assert "first-try" in caught.value.hint


def test_a_folder_without_a_spec_is_no_run() -> None:
    create_run("begun", "digits")
    with pytest.raises(UsageError, match="no such run"):
        find_run("begun")


def test_an_outcome_is_whole_or_not_there(tmp_path: Path) -> None:
    assert read_outcome(tmp_path) is None
    write_json(tmp_path / "outcome.json", {"status": "done"})
    assert read_outcome(tmp_path) == {"status": "done"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "outcome"))] == [
        "outcome.json"
    ]
    (tmp_path / "outcome.json").write_text("{")
    with pytest.raises(DamagedError, match=r"outcome\.json"):
        read_outcome(tmp_path)


def test_of_runs_that_are_there_the_newest_is_named_whatever_its_name() -> None:
    for age, name in enumerate(("csv", "first", "zebra")):  # seconds ago
        folder = make_run(name)
        began = time.time() - age
        os.utime(folder / "spec.json", (began, began))
    (runs_root() / "zebra" / "run.json").write_text("{}")  # written later, and no sign of a later beginning
    with pytest.raises(UsageError, match=r"did you mean first\?") as caught:
        find_run("frist", ANY_RUN)
    assert caught.value.hint.endswith("; the newest is csv")

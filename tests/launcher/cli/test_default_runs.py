"""Commands without a RUN: each chooses, and says what it has chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from lockstep.data.common.errors import LockstepError, UsageError
from lockstep.launcher.cli import app, result_commands, run_commands
from lockstep.launcher.cli.hosts_commands import HostsOptions
from lockstep.launcher.cli.options import split_run
from tests.helpers.run_folders import locked_by_another, make_run
from tests.worlds.planted import Place, open_mpi


def _chosen(command: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises((typer.Exit, LockstepError)):
        command()
    return capsys.readouterr().err


def test_commands_that_look_take_the_newest(capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run("first")
    (folder / "attempt-1" / "rank-0.log").write_text("hello\n")
    assert "this is first, the newest" in _chosen(run_commands.logs, capsys)
    make_run("second", kind="spec")
    assert "this is first, the newest but one" in _chosen(run_commands.compare, capsys)


def test_commands_that_look_into_a_training_pass_over_a_script(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the page is written where one is
    make_run("first")
    make_run("script", kind="run")
    for look in (lambda: result_commands.replay(step=1), result_commands.plot, result_commands.report):
        assert "this is first, the newest" in _chosen(look, capsys)


def test_commands_that_end_a_run_take_only_one_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with locked_by_another(make_run("first")):
        with locked_by_another(make_run("second")):
            for end in (run_commands.stop, run_commands.cancel, run_commands.checkpoint):
                with pytest.raises(UsageError, match="2 runs are running"):
                    end()
        assert "only one that is running" in _chosen(lambda: run_commands.stop(wait=0), capsys)


def test_resuming_on_several_nodes_asks_for_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    make_run("first")
    here: dict[str, Any] = {"hosts": None, "hostfile": None, "nodes": None, "node_rank": None}
    common = {"rendezvous": "", "gpus": None, "cpu": None, "ignore_world": False}
    assert app._run_to_resume(HostsOptions(**here, **common)) == "first"
    for several in ({"nodes": 2}, {"node_rank": 1}, {"hosts": "a,b"}):
        with pytest.raises(UsageError, match="Several nodes"):
            app._run_to_resume(HostsOptions(**(here | several), **common))
    for key, value in open_mpi(Place(1, 2, local=1)).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(LockstepError, match="resume without a RUN"):
        app._run_to_resume(HostsOptions(**here, **common))


def test_a_setting_or_a_file_in_the_place_of_a_run_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run("first")
    monkeypatch.chdir(folder)
    (folder / "picture.png").write_text("")
    assert split_run("first", ["a=1"]) == ("first", ["a=1"])
    assert split_run("train.epochs=5", ["a=1"]) == (None, ["train.epochs=5", "a=1"])
    assert split_run("picture.png", None) == (None, ["picture.png"])
    assert split_run("-", []) == (None, ["-"])
    assert split_run("frist", ["a=1"]) == ("frist", ["a=1"])
    assert split_run(None, None) == (None, [])

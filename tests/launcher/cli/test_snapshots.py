"""The outputs of the main commands, as files to read: at 80 and 120 columns, pages with and without colour.

``LOCKSTEP_UPDATE_SNAPSHOTS=1 .venv/bin/pytest -n 0 tests/launcher/cli/test_snapshots.py`` writes them anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from lockstep.data.common.errors import UsageError
from lockstep.launcher.cli import config_commands, help_commands, run_commands
from lockstep.launcher.console.failure_card import print_failure_card
from lockstep.launcher.manual.pages import command_page, group_page
from lockstep.launcher.runs.run_folder import runs_root
from tests.helpers.command_reference import params_of
from tests.helpers.run_folders import make_run, step_event
from tests.launcher.cli.test_help import COMMANDS, ROOT

FOLDER = Path(__file__).parent / "snapshots"
UPDATE = "LOCKSTEP_UPDATE_SNAPSHOTS"
WIDTHS = (80, 120)


def _check(name: str, text: str) -> None:
    path = FOLDER / f"{name}.txt"
    if os.environ.get(UPDATE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.is_file(), f"there is no snapshot yet: see the head of {Path(__file__).name}"
    assert text == path.read_text()


def _readable(lines: list[str]) -> str:
    """Lines with their escape sequences spelled out."""
    return "\n".join(lines).replace("\x1b[", "<") + "\n"


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_of_the_help(width: int) -> None:
    for path, command in COMMANDS.items():
        page = command_page(command, params_of(command), path, width, colour=False)
        _check(f"help-{width}/{path.removeprefix('launch ').replace(' ', '-')}", _readable(page))


@pytest.mark.parametrize("look", ["", "-colour"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_overview(width: int, look: str) -> None:
    known: Any = ROOT
    page = group_page(known, "launch", width, colour=bool(look))
    _check(f"help-{width}/overview{look}", _readable(page))


@pytest.fixture
def runs() -> None:
    """Two trainings of other seeds that are done, one that failed, and a script."""
    for name, seed in (("first", 0), ("second", 1)):
        epochs = [
            {"event": "epoch", "epoch": epoch, "step": 2 * epoch + 2, "time": 1.0, "train/loss": 0.5 / (epoch + 1),
             "val/loss": 0.4 / (epoch + seed + 1), "val/accuracy": 0.9, "val/count": 10}
            for epoch in range(2)
        ]  # fmt: skip
        outcome = {"status": "done", "exit_code": 0, "epochs": 2, "steps": 4, "metrics": epochs[1]}
        outcome["metrics"] = {key: value for key, value in epochs[1].items() if "/" in key}
        folder = make_run(name, step_event(1), epochs[0], step_event(3, 1), epochs[1], outcome=outcome)
        (folder / "spec.json").write_text(
            f'{{"config": {{"train": {{"seed": {seed}}}}}, "facts": {{"name": "digits", "fingerprint": "f"}}}}'
        )
    error = {
        "kind": "TrainingError",
        "message": "the loss is not a number at step 3",
        "hint": "lower the rate",
    }
    make_run("third", step_event(3), outcome={"status": "failed", "exit_code": 1, "error": error})
    make_run("script", kind="run", outcome={"status": "done", "exit_code": 0})


def _masked(text: str) -> str:
    masked = text.replace(str(runs_root()), "RUNS")
    masked = re.sub(r"\b\d+ (s|min)(?= ago|$)", "N s", masked, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in masked.splitlines()) + "\n"


def _printed(call: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(typer.Exit):
        call()
    printed = capsys.readouterr()
    return _masked(printed.err + printed.out)


OUTPUTS: dict[str, Callable[[], Any]] = {
    "status": run_commands.status,
    "status-first": lambda: run_commands.status("first"),
    "status-third": lambda: run_commands.status("third"),
    "status-script": lambda: run_commands.status("script"),
    "compare": lambda: run_commands.compare("first", "second"),
    "config-why": lambda: config_commands.why("optimizer.lr", "digits"),
}


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("width", WIDTHS)
def test_outputs(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for name, call in OUTPUTS.items():
        _check(f"output/{name}", _order_of_equals(_printed(call, capsys)))


def _order_of_equals(text: str) -> str:
    """Rows of a table of runs that were made in the same instant have no order."""
    lines = text.splitlines()
    if not lines[0].startswith("run "):
        return text
    return "\n".join([lines[0], *sorted(lines[1:])]) + "\n"


def test_the_doctor_with_its_measurements_masked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # without nvidia-smi
    text = _printed(lambda: help_commands.doctor(quick=True), capsys)
    heads = re.findall(r"^(\S.*:|  \w{4}  (?:\S+ )*\S+)(?=$|  )", text, flags=re.MULTILINE)
    shown = [re.sub(r"^  (PASS|WARN|FAIL)", "  ....", head) for head in heads]
    _check("output/doctor", "\n".join(shown) + "\n")


@pytest.mark.parametrize("look", ["", "-colour"])
def test_an_error(look: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockstep.launcher.console.console.can_colour", lambda _: bool(look))
    print_failure_card(UsageError("exp.yaml:3: what is wrong\nand where", "what to do"))
    _check(f"output/error{look}", _readable(capsys.readouterr().err.splitlines()))

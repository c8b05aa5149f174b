"""What every command prints, at 80 and at 120 columns, as files to read: a command without one fails here.

``LOCKSTEP_UPDATE_SNAPSHOTS=1 .venv/bin/pytest -n 0 tests/launcher/cli/test_every_output.py`` writes them anew.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.launcher.cli.app import main
from tests.launcher.cli.test_help import COMMANDS
from tests.launcher.cli.test_snapshots import _check, _masked, _order_of_equals, runs

__all__ = ["runs"]
LINES: dict[str, str] = {
    "train": "train nix.yaml",
    "resume": "resume first",
    "sweep": "sweep digits optimizer.lr=0.1,0.2 --name grid --dry-run",
    "run": "run nix.py",
    "check": "check nix.yaml",
    "scale": "scale first 3",
    "status": "status",
    "logs": "logs first",
    "plot": "plot first",
    "report": "report first",
    "compare": "compare first second",
    "show": "show tiny.yaml",
    "replay": "replay first --step 9",
    "eval": "eval first --data nix.csv --split test",
    "predict": "predict first nix.png --format xml",
    "export": "export first",
    "stop": "stop first",
    "checkpoint": "checkpoint first",
    "cancel": "cancel first",
    "rm": "rm third",
    "submit": "submit nix.yaml",
    "slurm-sandbox status": "slurm-sandbox status",
    "init": "init rings",
    "config why": "config why optimizer.lr digits",
    "schema": "schema rm",
    "help": "help rm",
}
ELSEWHERE = {
    "cache": "what is there is of the machine: tests/data/cache",
    "completion": "a script for the shell, which runs it: test_completion.py",
    "config reference": "docs/configuration.md",
    "config show": "every value there is, and its origin: tests/launcher/config",
    "config schema": "a schema, which configs are checked against: tests/launcher/reference",
    "doctor": "with its measurements masked: test_snapshots.py",
    "slurm-sandbox up": "a cluster: tests/slurm",
    "slurm-sandbox down": "a cluster: tests/slurm",
}


def test_every_command_has_its_output_here_or_says_where() -> None:
    assert {path.removeprefix("launch ") for path in COMMANDS} == {*LINES, *ELSEWHERE}
    assert [words for name, words in LINES.items() if not words.startswith(name)] == []


@pytest.fixture
def here(own_folders: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose name has the same length everywhere: what is longer than a line is folded."""
    with tempfile.TemporaryDirectory(prefix="every-", dir="/tmp") as folder:
        monkeypatch.setenv("LOCKSTEP_RUNS", f"{folder}/runs")
        monkeypatch.setenv("LOCKSTEP_SLURM_SANDBOX", f"{folder}/sandbox")
        yield Path(folder)


@pytest.mark.usefixtures("here", "runs")
@pytest.mark.parametrize("width", [80, pytest.param(120, marks=pytest.mark.exhaustive)])
def test_what_every_command_prints(
    width: int, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("PATH", "/nowhere")  # without SLURM
    monkeypatch.chdir(here)
    (here / "tiny.yaml").write_text(
        "data: {use: digits, args: {train: 30, val: 10}}\nschedule: {use: cosine}\n"
    )
    for name, words in LINES.items():
        monkeypatch.setattr(sys, "argv", ["launch", *words.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        said = _masked((printed.err + printed.out).replace(str(here), "HERE"))
        said = re.sub(r"\d+ B, \d+ (s|min|h) old", "N B, N s old", said)
        said = re.sub(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", said)
        _check(
            f"every-{width}/{name.replace(' ', '-')}", f"{_order_of_equals(said)}[exit {ended.value.code}]\n"
        )

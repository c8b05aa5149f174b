"""Every page of the help, and what is said of a command line that is wrong."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer

from lockstep.launcher.cli.app import app
from lockstep.launcher.manual.pages import GROUPS, Page, command_page, examples_of, group_page
from tests.helpers.command_reference import leaves, params_of
from tests.helpers.launch import LAUNCH, Launch
from tests.helpers.terminal import terminal

ROOT = typer.main.get_command(app)
COMMANDS = dict(leaves(ROOT))


def _page(path: str, width: int = 80) -> list[str]:
    return command_page(COMMANDS[path], params_of(COMMANDS[path]), path, width, colour=False)


@pytest.mark.parametrize("width", [80, 120])
def test_every_page_has_whole_sentences_an_example_and_fits(width: int) -> None:
    for path, command in COMMANDS.items():
        page = _page(path, width)
        said = " ".join(" ".join(page).split())
        assert " ".join(command.help.split()) in said, path
        assert any(line.startswith(("Example:", "Examples:")) for line in page), path
        assert not [line for line in page if len(line) > width], path
        assert all(
            " ".join(param.help.split()) in said
            for param in params_of(command)
            if param.help and not param.hidden and "--help" not in param.opts
        ), path


def test_the_overview_has_every_command_in_its_group_with_its_whole_sentence() -> None:
    page = group_page(ROOT, "launch", 80, colour=False)
    said = " ".join(" ".join(page).split())
    assert not [line for line in page if len(line) > 80]
    assert "..." not in said
    assert "More:" not in page
    for name, command in ROOT.commands.items():
        assert f" {name} {' '.join(command.help.split())}" in said
    places = [page.index(f"{heading}:") for heading in GROUPS]
    assert places == sorted(places)


def test_every_example_names_a_command_and_options_that_it_has() -> None:
    for called, command in COMMANDS.items():
        path = called.removeprefix("launch ")
        known = {name for param in params_of(command) for name in param.opts}
        for line, _ in examples_of(command):
            found = re.search(r"launch [^)\"]*", line)
            assert found is not None, line
            words = shlex.split(found[0].partition(" > ")[0])[1:]
            assert words[: len(path.split())] == path.split()
            own = words[: next((place for place, word in enumerate(words) if word.endswith(".py")), None)]
            assert {word for word in own if word.startswith("-")} <= known, line


def test_options_of_a_job_are_a_group_of_their_own() -> None:
    page = _page("launch sweep")
    job = page[page.index("SLURM:") :]
    assert any("--partition" in line for line in job)
    assert not any("--partition" in line for line in page[: page.index("SLURM:")])
    assert not any("--dry-run" in line for line in job)


def test_a_usage_line_that_is_too_long_goes_on_between_arguments() -> None:
    page = Page(50, colour=False)
    page.usage("launch x", ("[OPTIONS]", "[one two three four]", "[five six]"))
    assert page.lines == ["usage: launch x [OPTIONS] [one two three four]", "                [five six]"]


WAYS = (("train", "--help"), ("train", "digits", "-h"), ("help", "train"))


def test_each_way_to_ask_shows_the_same_page_and_converts_nothing(launch: Launch) -> None:
    asked = [launch(*words, env={"COLUMNS": "80"}) for words in WAYS]
    assert {(found.status, found.err) for found in asked} == {(0, "")}
    assert {found.out for found in asked} == {"\n".join(_page("launch train")) + "\n"}
    code = "from lockstep.launcher.cli.start import main; import sys\ntry: main()\nexcept SystemExit: pass\n"
    for words in (["train", "--help"], ["submit", "exp.yaml", "--help"], ["--version"], ["config"]):
        done = subprocess.run(
            [sys.executable, "-P", "-c", f"{code}print('pydantic' in sys.modules)", *words],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.endswith("False\n"), words


def _refused(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    from lockstep.launcher.cli import app as cli

    monkeypatch.setattr(sys, "argv", ["launch", *line.split()])
    monkeypatch.setattr("lockstep.launcher.console.error_boundary._hold_standard_streams", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    return capsys.readouterr()


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("nope", "launch: there is no command 'nope'", "`launch --help` lists them"),
        ("stats", "launch: there is no command 'stats', did you mean 'status'?", "`launch --help` lists them"),
        ("config wy", "launch config: there is no command 'wy', did you mean 'why'?", "`launch config --help`"),
        ("exp.yaml", "exp.yaml: not a command", "launch train [OPTIONS] exp.yaml"),
        ("--gpus 2", "launch: there is no option --gpus", "`launch --help` has what it takes"),
        ("status --srt x", "launch status: there is no option --srt, did you mean '--sort'?", "`launch status"),
        ("rm", "launch rm: RUN... is missing", "`launch rm --help` has what it takes"),
        ("logs --rank x", "launch logs: --rank: must be a whole number", "`launch logs --help`"),
        ("train --nodes 0", "launch train: --nodes: must be greater than or equal to 1", "`launch train"),
        ("status a b", "launch status: got unexpected extra argument(s) (b)", "`launch status --help`"),
        ("train --cpu", "launch train: option '--cpu' requires an argument", "`launch train --help`"),
        ("run --cpu", "launch run: option '--cpu' requires an argument", "`launch run --help`"),
        ("config show --json=1", "launch config show: option '--json' does not take a value", "`launch config show"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_command_line_is_said_as_every_error_is(
    line: str, message: str, hint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = _refused(line, capsys, monkeypatch)
    assert printed.out == ""
    assert printed.err.splitlines()[0] == f"error: {message}"
    assert printed.err.splitlines()[1].startswith(f"hint: {hint}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("status --json --nope", "launch status: there is no option --nope"),
        ("train --json --cpu", "launch train: option '--cpu' requires an argument"),
        ("train --nproc_per_node 2 --json", "--nproc_per_node 2: not an option of launch"),
        ("stats --json", "launch: there is no command 'stats', did you mean 'status'?"),
        ("config wy --json", "launch config: there is no command 'wy', did you mean 'why'?"),
        ("--json status", "launch: there is no option --json"),
        ("run --nproc_per_node 2 x.py --json", None),
        ("run --cpu x x.py --json", None),
    ],
)
def test_a_wrong_command_line_is_one_document_too_where_json_was_asked_for(
    line: str, message: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = _refused(line, capsys, monkeypatch)
    documents = [json.loads(printed.out)["error"]["message"]] if printed.out else []
    assert documents == ([message] if message else [])


def test_colours_are_for_a_terminal_whose_user_wants_them() -> None:
    bold, red = b"\x1b[1musage:\x1b[0m", b"\x1b[1;31merror:\x1b[0m"
    plain = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"}
    for words, styled in ((["--help"], bold), (["nope"], red)):
        for environment, expected in ((plain, True), (plain | {"NO_COLOR": "1"}, False)):
            with terminal([*LAUNCH, *words], 50, 80, env=environment) as shown:
                shown.end()
            assert (styled in shown.shown) is expected
            assert (b"\x1b" in shown.shown) is expected

"""``launch check`` as its users start it: an honest folder passes, every planted mistake is named by its check."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.check_mistakes import MISTAKES, write_project
from tests.helpers.evaluation_models import EVALUATION_CASES, EVALUATION_CODE, EVALUATION_CONFIG
from tests.helpers.launch import Launch
from tests.helpers.user_project import USER_CODE

SAMPLE = "Python's random in a dropout"  # goes through every part: it is seen only in the resumed run's steps


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Short: loaders put sockets there, whose paths may have 107 characters; a longer one loses samples for ever."""
    with tempfile.TemporaryDirectory(prefix="ls-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


def _verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {found["check"]: found["verdict"] for found in document["checks"]}


@pytest.mark.exhaustive
def test_the_log_that_a_failed_check_names_is_there(launch: Launch, own: Path, temporary: Path) -> None:
    text = "\ndef dying():\n    import os\n    print('the last words', flush=True)\n    os._exit(3)\n"
    (own / "own.py").write_text((own / "own.py").read_text() + text)
    result = launch("check", "own.yaml", "model.use=./own.py:dying", cwd=own)
    assert result.status == 4, result.err
    log = Path(result.err.rpartition("its log is ")[2].strip())
    assert "the last words" in log.read_text()
    (folder,) = temporary.glob("lockstep-*")
    assert [path for path in folder.rglob("*") if path.is_file()] == [log]


def test_an_honest_folder_passes_and_leaves_nothing_behind(
    launch: Launch, tmp_path: Path, temporary: Path
) -> None:
    config = write_project(tmp_path / "own")
    before = sorted(path.name for path in config.parent.iterdir())
    result = launch("check", str(config), "--json", cwd=config.parent)
    assert result.status == 0, result.err
    document = result.document
    assert (document["schema_version"], document["status"], document["world_size"]) == (1, "passed", 2)
    assert set(_verdicts(document).values()) == {"PASS"}
    assert list(_verdicts(document)) == [
        "data set",
        "samples",
        "labels",
        "loss",
        "metric accuracy",
        "metric recall",
        "directions",
        "model",
        "randomness",
        "parameters",
        "learning rate",
        "2 against 1",
        "evaluation",
        "resume",
    ]
    assert list(temporary.glob("lockstep-*")) == []  # what torch and multiprocessing leave is theirs
    left = sorted(path.name for path in config.parent.iterdir() if path.name != "__pycache__")
    assert left == before


def _check_mistake(launch: Launch, config: Path, name: str, *more: str) -> None:
    mistake = MISTAKES[name]
    result = launch("check", str(config), *mistake.settings, *more, "--json", cwd=config.parent)
    assert result.status == (1 if mistake.verdict == "FAIL" else 0), result.err
    document = result.document
    found = next(check for check in document["checks"] if check["check"] == mistake.check)
    assert found["verdict"] == mistake.verdict
    assert mistake.words in found["what"]
    assert found["advice"]
    failed = {check for check, verdict in _verdicts(document).items() if verdict == "FAIL"}
    assert mistake.also_failing <= failed
    if mistake.check != "metric rate":  # its means may differ in evaluation, or not
        assert failed <= mistake.also_failing | {mistake.check, "evaluation"}


@pytest.mark.exhaustive
def test_a_mistake_is_named_from_the_first_look_to_the_resumed_run(launch: Launch, tmp_path: Path) -> None:
    config = write_project(tmp_path / "own")
    mistake = MISTAKES[SAMPLE]
    result = launch("check", str(config), *mistake.settings, cwd=config.parent)
    assert result.status == 1
    words = " ".join(result.out.split())
    assert f"FAIL {mistake.check} {mistake.words}" in words
    assert "the first difference is the forward of Dropping (2), in step 4" in words
    assert f"at {config.parent / 'exp.py'}:" in words
    assert f"correct `{mistake.check}`, which failed above, first" in words
    assert "done: randomness, resume failed" in result.err


def test_a_length_that_lies_is_named_at_once(launch: Launch, tmp_path: Path) -> None:
    _check_mistake(launch, write_project(tmp_path / "own"), "a length that lies")


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_named_by_its_check(launch: Launch, tmp_path: Path, name: str) -> None:
    _check_mistake(launch, write_project(tmp_path / "own"), name)


@pytest.mark.exhaustive
def test_a_vae_is_told_that_it_draws_and_nothing_else(launch: Launch, own: Path) -> None:
    (own / "own.py").write_text(USER_CODE + EVALUATION_CODE)
    (own / "own.yaml").write_text(EVALUATION_CONFIG)
    result = launch("check", "own.yaml", *EVALUATION_CASES["a vae"], "--json", cwd=own)
    assert result.status == 0, result.err
    verdicts = _verdicts(result.document)
    assert {check for check, verdict in verdicts.items() if verdict == "NOTE"} == {
        "model",
        "randomness",
        "2 against 1",
    }
    assert set(verdicts.values()) == {"PASS", "NOTE"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("recipe", ["digits", "regression"])
@pytest.mark.parametrize("processes", ["1", "3"])
def test_recipes_pass(launch: Launch, recipe: str, processes: str) -> None:
    result = launch("check", recipe, "--cpu", processes, "--json")
    assert result.status == 0, result.err
    assert "FAIL" not in _verdicts(result.document).values()
    assert _verdicts(result.document)["resume"] == "PASS"


@pytest.mark.exhaustive
def test_what_is_no_matter_of_exactness_ends_with_its_own_status(launch: Launch, tmp_path: Path) -> None:
    config = write_project(tmp_path / "own")
    result = launch("check", str(config), "data.use=./exp.py:dat", "--json", cwd=config.parent)
    assert result.status == 2
    assert result.document["exit_code"] == 2
    assert "has no 'dat'" in result.document["error"]["message"]
    assert "did you mean 'data'" in result.err

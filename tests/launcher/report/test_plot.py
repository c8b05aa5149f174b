"""``launch plot``: the picture is there, the charts fit, and where there is none it says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lockstep.data.common import UsageError
from lockstep.launcher.report import plot_runs
from tests.helpers.run_folders import make_run, step_event


def trained(name: str, *, resumed: bool = False) -> Path:
    events = [{"time": 1.0, "event": "start", "step": 0, "world_size": 2}]
    events += [step_event(number, loss=1 / number) for number in range(1, 41)]
    events += [{"time": 2.0, "event": "start", "step": 40, "world_size": 1}] if resumed else []
    events += [step_event(number, loss=1 / number) for number in range(41, 61)]
    events += [{"time": 3.0, "event": "epoch", "epoch": 0, "step": 60, "val/accuracy": 0.75, "val/count": 9}]
    return make_run(name, *events)


def test_a_run_is_drawn_as_a_picture_and_in_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trained("one", resumed=True)
    assert plot_runs(["one"], [], None, None, as_json=False) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert [line.split()[0] for line in out.splitlines() if " now " in line] == [
        "train/loss",
        "val/accuracy",
        "lr",
    ]
    assert "train/loss  0.0166667 to 1, now 0.0166667" in out
    assert "▲ resumed from step 40" in out
    picture = tmp_path / "one-curves.png"
    assert "\npicture: one-curves.png\n" in out
    with Image.open(picture) as image:
        assert len(set(image.convert("L").resize((99, 99)).tobytes())) > 10  # something is drawn
    assert not list(tmp_path.glob(".*.tmp*"))


def test_several_runs_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained("one", resumed=True)
    trained("two")
    out = tmp_path / "new" / "x.png"
    assert plot_runs(["one", "two"], ["train/loss"], out, 5, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["picture"] == str(out)
    assert out.is_file()
    one, two = document["runs"]
    assert (one["run"], one["resumed_from"], two["resumed_from"]) == ("one", [40], [])
    assert list(one["metrics"]) == ["train/loss"]
    assert one["metrics"]["train/loss"]["steps"] == list(range(1, 61))
    assert one["metrics"]["train/loss"]["mean"][1] == 0.5
    with pytest.raises(UsageError, match="is there already"):
        plot_runs(["one", "two"], ["loss"], out, None, as_json=False)
    plot_runs(["one", "two"], ["loss"], out, None, force=True, as_json=False)
    assert "train/loss  a one  b two" in capsys.readouterr().out


def test_a_run_that_is_named_by_its_folder_names_the_picture_which_is_renewed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(trained("one"))
    for _ in range(2):
        plot_runs(["."], ["loss"], None, None, as_json=True)
    assert Path("one-curves.png").is_file()


def test_runs_that_have_no_letter_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"r{number}" for number in range(28)]
    for name in names:
        make_run(name, step_event(1), step_event(2))
    for count, said in (
        (26, []),
        (28, ["note: the charts here have the first 26 runs; the picture has all 28"]),
    ):
        plot_runs(names[:count], ["loss"], tmp_path / f"{count}.png", None, as_json=False)
        assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")] == said


def test_no_picture_and_why(tmp_path: Path) -> None:
    make_run("empty", {"time": 1.0, "event": "start", "step": 0})
    trained("one")
    for names, metrics, out, said in (
        (["empty"], [], None, "no picture: empty has logged no number so far"),
        (["one"], ["f1"], None, "no picture of f1: not logged by one"),
        (["one"], [], tmp_path, "a folder"),
        (["one"], [], tmp_path / "x.nonsense", "x.nonsense: not a .png or .pdf or .svg or .jpg file"),
        (["none"], [], None, "there is no such run"),
    ):
        with pytest.raises(UsageError) as refused:
            plot_runs(names, metrics, out, None, as_json=False)
        assert said in refused.value.message

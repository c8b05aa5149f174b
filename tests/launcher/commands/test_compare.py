from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.config import DatasetInfo, SplitInfo
from lockstep.launcher.commands.compare import compare_runs
from lockstep.launcher.config.resolution import resolve
from lockstep.training.config import RunSpec
from tests.helpers.run_folders import make_run, step_event


def _run(
    name: str, *losses: float | None, every: int = 10, seed: int = 0, torch: str = "2.14", **config: Any
) -> Path:
    rows = [step_event(every * number, loss=loss) for number, loss in enumerate(losses, start=1)]  # type: ignore[arg-type]
    folder = make_run(name, *rows, {"event": "epoch", "epoch": 0, "step": 10, "train/loss": losses[-1]})
    spec = {
        "config": {"train": {"seed": seed, "epochs": 1}, "data": {"batch_size": 8}, **config},
        "data": {"name": "d", "fingerprint": "f", "train": {"length": 80}},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    manifest = {"versions": {"torch": torch}, "created": name, "plan": {"processes": 2, "run": name}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert compare_runs("one", "two", as_json=False) == 0
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= 80
    return shown


def test_runs_that_are_alike_are_equal_to_the_bit(capsys: pytest.CaptureFixture[str]) -> None:
    _run("one", 0.5, 0.25)
    _run("two", 0.5, 0.25)
    assert _lines(capsys)[:5] == [
        "settings: the same",
        "environment: the same",
        "data: the same",
        "order of samples: the same",
        "loss: equal to the bit wherever both have logged it (3 times)",
    ]


def test_settings_versions_order_and_the_first_other_loss_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _run("one", 0.5, 0.25, 0.1, optimizer={"lr": 0.1}, model={"use": "x" * 60})
    _run("two", 0.5, 0.25 + 1e-9, 0.2, seed=3, torch="2.15", optimizer={"lr": 0.2, "groups": [1]})
    shown = _lines(capsys)
    assert "settings: 4 differ" in shown
    assert "  optimizer.lr      0.1                        0.2" in shown
    assert f"  model.use         {'x' * 12}…{'x' * 12}  -" in shown
    assert "  versions.torch  2.14  2.15" in shown
    assert "order of samples: another one from the first step on: train.seed" in shown
    place = shown.index("loss: differs from step 20 on (0.25 and 0.25)")
    assert shown[place + 1] == "  by more than 1e-6 of it from step 30 on (0.1 and 0.2)"


def test_other_data_and_metrics_of_one_run_alone_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The spec is as a run writes it: what it calls its data is what is compared."""
    folders = {name: _run(name, 0.5) for name in ("one", "two")}
    for name, fingerprint in (("one", "f"), ("two", "g")):
        facts = DatasetInfo(name, "arrays", SplitInfo(80, {}), None, *[None] * 7, fingerprint=fingerprint)
        config = resolve("digits", []).config
        spec = RunSpec(name, config, Path.cwd(), facts, "cpu", "id").to_json()
        (folders[name] / "spec.json").write_text(json.dumps(spec))
    row = {"event": "epoch", "epoch": 1, "step": 20, "train/loss": 0.1, "val/recall": 0.5}
    with (folders["one"] / "metrics.jsonl").open("a") as record:
        record.write(json.dumps(row) + "\n")
    shown = _lines(capsys)
    assert shown[2:7] == [
        "data: 2 differ",
        "               one  two",
        "  name         one  two",
        "  fingerprint  f    g",
        "order of samples: another one from the first step on: data.fingerprint",
    ]
    assert "  val/recall  0.5000  -" in shown


def test_means_over_other_steps_are_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    _run("one", 0.5, 0.25, every=10)
    _run("two", 0.6, 0.3, 0.25, every=5)
    assert compare_runs("one", "two", as_json=True) == 0
    loss = json.loads(capsys.readouterr().out)["loss"]
    assert loss == {"compared": 1, "first": None, "first_beyond_rounding": None}


def test_rounding_and_a_loss_that_is_no_number_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    _run("one", 0.5)
    _run("two", 0.5 + 1e-9)
    assert "  by less than 1e-6 of it, as sums in another order do" in _lines(capsys)
    _run("three", None)
    assert compare_runs("one", "three", as_json=False) == 0
    assert "differs from step 10 on (0.5 and nan)" in capsys.readouterr().out

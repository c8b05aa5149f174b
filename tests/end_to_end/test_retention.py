"""Which checkpoints stay, when a run ends early, what evaluation uses, and new runs from old weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lockstep.training.checkpoint.layout import list_checkpoints, step_of
from lockstep.training.checkpoint.manifest import newest_intact
from tests.helpers.launch import Launch, run_folder

NOISY = ["optimizer.lr=2.5", "data.args={n: 101, m: 61}"]  # so that the best epoch is not the last one


def _steps(name: str) -> list[int]:
    return sorted(int(path.name[5:]) for path in (run_folder(name) / "checkpoints").iterdir())


def _epochs(name: str) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (run_folder(name) / "metrics.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "epoch"]


def _train(launch: Launch, own: Path, name: str, *settings: str, cpu: int = 1) -> dict[str, Any]:
    arguments = ("own.yaml", *settings, "--cpu", str(cpu), "--name", name, "--json")
    result = launch("train", *arguments, cwd=own)
    assert result.status == 0, result.err
    return result.document


def test_the_newest_and_the_best_stay(launch: Launch, own: Path) -> None:
    asked = ["train.epochs=8", "checkpoint.keep_last=2", "checkpoint.keep_best=2"]
    _train(launch, own, "run", *NOISY, *asked, "checkpoint.monitor=val/loss", cpu=2)
    epochs = _epochs("run")
    best = sorted(epochs, key=lambda event: event["val/loss"])[:2]
    newest = [event["step"] for event in epochs[-2:]]
    assert _steps("run") == sorted({*newest, *(event["step"] for event in best)})
    assert len(_steps("run")) > 2, "the best epochs are the last ones: the test shows nothing"


@pytest.mark.exhaustive
def test_the_best_epochs_are_written_even_where_no_other_is(launch: Launch, own: Path) -> None:
    _train(launch, own, "run", *NOISY, "train.epochs=6", "checkpoint.every_epochs=null")
    best = min(_epochs("run"), key=lambda event: event["val/loss"])["step"]
    last = _epochs("run")[-1]["step"]
    assert {best, last} <= set(_steps("run"))
    evaluated = launch("eval", "run", "--checkpoint", "best", "--json", cwd=own)
    assert evaluated.document["step"] == best
    assert evaluated.document["metrics"]["val/loss"] == min(event["val/loss"] for event in _epochs("run"))


@pytest.mark.exhaustive
def test_a_run_ends_early_and_goes_on_with_more_patience(launch: Launch, own: Path) -> None:
    asked = ["train.epochs=40", "train.early_stop={patience: 2}"]
    ended = _train(launch, own, "run", *NOISY, *asked, cpu=2)
    losses = [event["val/loss"] for event in _epochs("run")]
    assert ended["stopped_early"]
    assert ended["status"] == "done"
    assert len(losses) < 40
    assert min(losses) < min(losses[-2:])
    again = launch("resume", "run", "--cpu", "2", cwd=own)
    assert again.status == 2
    assert "run is done: it ended early, after" in again.err
    assert "train.early_stop.patience=N" in again.err
    more = launch("resume", "run", "train.early_stop.patience=4", "--cpu", "2", "--json", cwd=own)
    assert more.status == 0, more.err
    assert len(_epochs("run")) >= len(losses) + 1
    assert [event["val/loss"] for event in _epochs("run")][: len(losses)] == losses


@pytest.mark.exhaustive
def test_evaluation_uses_the_average_and_a_new_run_starts_from_it(launch: Launch, own: Path) -> None:
    first = _train(launch, own, "first", "train.ema={decay: 0.98}", cpu=2)
    folder = max((run_folder("first") / "checkpoints").iterdir())
    model, ema = load_file(folder / "model.safetensors"), load_file(folder / "ema.safetensors")
    assert ema.keys() == model.keys()
    assert not any(torch.equal(model[name], ema[name]) for name in model)
    evaluated = launch("eval", "first", "--cpu", "1", "--json", cwd=own).document
    for key in ("val/loss", "val/accuracy", "val/count"):
        assert evaluated["metrics"][key] == pytest.approx(first["metrics"][key], rel=1e-12)
    still = ["optimizer.lr=1e-300", "train.epochs=1"]
    second = _train(launch, own, "second", "model.weights=first", *still)
    assert second["metrics"]["val/loss"] == pytest.approx(first["metrics"]["val/loss"], rel=1e-12)
    shutil.rmtree(run_folder("first"))
    more = launch("resume", "second", "train.epochs=2", "--cpu", "1", cwd=own)
    assert more.status == 0, "what a run started from is not needed any more once it has a checkpoint"


@pytest.mark.exhaustive
def test_a_model_that_makes_its_tensors_when_it_is_first_called_is_evaluated_and_started_from(
    launch: Launch, own: Path
) -> None:
    text = """
class Late(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(11), nn.Tanh(), nn.LazyLinear(2))
    def forward(self, x):
        if not hasattr(self, "total"):
            self.register_buffer("total", torch.zeros(x.shape[1], dtype=x.dtype))
        if self.training:
            self.total += x.detach().sum(0)
        return self.layers(x - 1e-3 * self.total)
"""
    (own / "own.py").write_text((own / "own.py").read_text() + text)
    first = _train(launch, own, "first", "model.use=./own.py:Late")
    evaluated = launch("eval", "first", "--cpu", "2", "--json", cwd=own)
    assert evaluated.status == 0, evaluated.err
    for key in ("val/loss", "val/accuracy"):
        assert evaluated.document["metrics"][key] == pytest.approx(first["metrics"][key], rel=1e-12)
    still = ["optimizer.lr=1e-300", "train.max_steps=1"]
    _train(launch, own, "second", "model.use=./own.py:Late", "model.weights=first", *still)
    newest = [max((run_folder(name) / "checkpoints").iterdir()) for name in ("first", "second")]
    one, other = (load_file(path / "model.safetensors") for path in newest)
    assert all(torch.equal(one[name], other[name]) for name in one if name != "total")
    (own / "own.py").write_text((own / "own.py").read_text().replace("nn.Tanh()", "nn.Linear(11, 11)"))
    refused = launch("eval", "first", "--cpu", "1", cwd=own)
    assert refused.status == 2, refused.err
    assert "is of another model" in refused.err
    assert "layers.1.weight: absent there, (11, 11) here" in refused.err


@pytest.mark.exhaustive
def test_weights_come_from_a_file_that_fits_and_stays_the_same(launch: Launch, own: Path) -> None:
    weights = {"0.weight": torch.ones(11, 7).double(), "0.bias": torch.ones(11).double()}
    save_file(weights, own / "half.safetensors")
    refused = launch("train", "own.yaml", "model.weights=half.safetensors", "--name", "half", cwd=own)
    assert refused.status == 2
    assert "is of another model" in refused.err
    assert "2.bias: absent there, (2,) here" in refused.err
    partly = ("model.weights=half.safetensors", "model.weights_match=partial", "train.max_steps=1")
    done = launch("train", "own.yaml", *partly, "--name", "partly", "--cpu", "2", cwd=own)
    assert done.status == 0, done.err
    assert "note: model.weights: 2 of 4 tensors are from" in done.out + done.err
    table = (run_folder("partly") / "weights.txt").read_text()
    assert table.splitlines()[:3] == ["0.bias: loaded", "0.weight: loaded", "2.bias: absent there, (2,) here"]
    (own / "pickled.pt").write_bytes(b"cos\nsystem\n")
    refused = launch("train", "own.yaml", "model.weights=pickled.pt", "--name", "pickled", cwd=own)
    assert refused.status == 2
    assert "pickled.pt holds more than tensors" in refused.err
    refused = launch("train", "own.yaml", "model.weights=nothing", "--name", "nothing", cwd=own)
    assert refused.status == 2
    assert "model.weights: nothing is neither a run in" in refused.err


def test_a_metric_of_ones_own_says_which_way_is_better(launch: Launch, own: Path) -> None:
    code = (
        "def gap(output, target):\n"
        "    return nn.functional.cross_entropy(output, target, reduction='sum'), len(target)\n"
    )
    (own / "own.py").write_text((own / "own.py").read_text() + code)
    asked = ["metrics=[{use: ./own.py:gap, better: lower}]", "checkpoint.monitor=val/gap"]
    _train(launch, own, "run", *NOISY, *asked, "train.epochs=6", "checkpoint.keep_last=1")
    best = min(_epochs("run"), key=lambda event: event["val/gap"])["step"]
    assert set(_steps("run")) == {best, _epochs("run")[-1]["step"]}
    assert "mode: auto  " in (run_folder("run") / "config.yaml").read_text()
    assert "min, by metrics" in (run_folder("run") / "config.yaml").read_text()


@pytest.mark.exhaustive
def test_a_monitored_metric_has_to_be_measured(launch: Launch, own: Path) -> None:
    asked = "train.early_stop.monitor=val/acuracy"
    result = launch("train", "own.yaml", asked, "--cpu", "2", "--name", "typo", cwd=own)
    assert result.status == 2
    assert "train.early_stop.monitor: val/acuracy is not measured; did you mean val/accuracy?" in result.err


@pytest.mark.exhaustive
def test_a_damaged_checkpoint_does_not_take_the_place_of_a_whole_one(launch: Launch, own: Path) -> None:
    text = "\nimport os, signal\ncalls = 0\ndef killed(output, target):\n    global calls\n    calls += 1\n"
    text += (
        "    if calls == int(os.environ.get('KILL_AT', '0')):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    text += "    return nn.functional.cross_entropy(output, target, reduction='none')\n"
    (own / "own.py").write_text((own / "own.py").read_text() + text)
    kept = ["loss.use=./own.py:killed", "checkpoint.every_epochs=null", "checkpoint.keep_best=0"]
    _train(launch, own, "run", "train.max_steps=40", *kept, "checkpoint.every_steps=10")
    checkpoints = run_folder("run") / "checkpoints"
    assert _steps("run") == [20, 30, 40]
    for step in (30, 40):
        with (checkpoints / f"step_{step:08d}" / "model.safetensors").open("ab") as file:
            file.write(b"x")
    often = ("train.max_steps=50", "checkpoint.every_steps=1", "checkpoint.keep_last=1")
    assert launch("resume", "run", *often, cwd=own, env={"KILL_AT": "8"}).status == 4
    assert 20 < step_of(newest_intact(checkpoints)[0]) < 28
    resumed = launch("resume", "run", *often, cwd=own)
    assert resumed.status == 0, resumed.err
    assert [step_of(path) for path in list_checkpoints(checkpoints)] == [50]


@pytest.mark.exhaustive
def test_a_run_that_failed_before_its_first_step_frees_its_name(launch: Launch, own: Path) -> None:
    wrong = ("own.yaml", "model.args={width: 6}", "--cpu", "1", "--name", "run")
    assert launch("train", *wrong, cwd=own).status == 1
    result = launch("train", "own.yaml", "--cpu", "1", "--name", "run", cwd=own)
    assert result.status == 0, result.err
    assert "it begins anew" in result.err
    refused = launch("train", *wrong, cwd=own)
    assert (refused.status, "other settings" in refused.err) == (2, True), refused.err


@pytest.mark.exhaustive
def test_a_run_that_had_begun_is_kept_when_its_name_begins_anew(launch: Launch, own: Path) -> None:
    text = "\ncalls = 0\ndef failing(output, target):\n    global calls\n    calls += 1\n"
    text += "    assert calls < 7, 'the sixth step'\n"
    text += "    return nn.functional.cross_entropy(output, target, reduction='none')\n"
    (own / "own.py").write_text((own / "own.py").read_text() + text)
    failing = ("own.yaml", "loss.use=./own.py:failing", "--cpu", "1", "--name", "run")
    for number in (1, 2):
        assert launch("train", *failing, f"train.seed={number}", cwd=own).status == 1
    result = launch("train", "own.yaml", "--cpu", "1", "--name", "run", cwd=own)
    assert result.status == 0, result.err
    assert "what was done before is kept as run.before-2" in result.err
    for number in (1, 2):
        kept = run_folder(f"run.before-{number}")
        assert f"seed: {number}" in (kept / "config.yaml").read_text()
        assert "the sixth step" in (kept / "attempt-1" / "rank-0.log").read_text()
    assert launch("status", "run.before-1", cwd=own).status == 0

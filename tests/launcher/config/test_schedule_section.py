"""The length of a run and its schedule, as they are written, overridden and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.config.resolution import resolve, to_yaml
from lockstep.training.config.config_identity import flatten_config, identity_settings, identity_sha256
from lockstep.training.config.run_config import RunConfig


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "a.yaml"


def _lines(config: Path, *overrides: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        resolve(str(config), overrides)
    return [line.removeprefix(f"{config}:") for line in caught.value.message.splitlines()]


def test_every_mistake_of_a_schedule_is_said_at_once_with_its_place(config: Path) -> None:
    config.write_text(
        "schedule:\n  use: step\n  warmup: 5 parsecs\n  at: [3]\n  power: 2\noptimizer: {lr: 0}\n"
    )
    assert _lines(config) == [
        '1: schedule: the key "every" is missing',
        '3: schedule.warmup = "5 parsecs": must be 500 steps or 2 epochs or 5 %',
        "4: schedule.at: step has no at",
        "5: schedule.power = 2: step has no power",
        "6: optimizer.lr = 0: must be greater than 0",
    ]
    config.write_text("schedule: {use: cosin}\n")
    [line] = _lines(config)
    assert line.startswith('1: schedule.use = "cosin": must be one of constant, linear, cosine')
    assert line.endswith("./file.py:callable; did you mean cosine?")


def test_another_schedule_leaves_out_the_keys_that_it_does_not_have(config: Path) -> None:
    config.write_text("schedule: {use: cosine, min_lr: 0.001, warmup: 10 %}\n")
    resolved = resolve(str(config), ["schedule.use=constant"])
    assert (resolved.config.schedule.use, resolved.config.schedule.min_lr) == ("constant", 0.0)
    assert str(resolved.config.schedule.warmup) == "10 %"
    assert resolved.notes == (
        "schedule.min_lr of a.yaml:1 is left out, because schedule.use is now constant",
    )


def test_a_length_on_the_command_line_takes_the_place_of_the_files(config: Path) -> None:
    config.write_text("train: {epochs: 7}\n")
    resolved = resolve(str(config), ["train.steps=100"])
    assert resolved.config.train.run_length(30).steps == 100
    assert resolved.notes == ("train.epochs of a.yaml:1 is left out, because train.steps is set",)
    config.write_text("train: {steps: 7}\n")
    assert resolve(str(config), ["train.epochs=2"]).config.train.run_length(30).steps == 60
    assert resolve(str(config), ["train.steps=8"]).config.train.run_length(30).steps == 8
    assert resolve(str(config), ["train.steps=null"]).config.train.run_length(30).steps == 150


def test_a_run_has_one_length(config: Path) -> None:
    config.write_text("train:\n  epochs: 7\n  steps: 9\n")
    what = "train.steps stands in the place of train.epochs, which is set, too: leave one of them out"
    assert _lines(config) == [f"3: {what}"]
    config.write_text("{}")
    assert _lines(config, "train.steps=1", "train.epochs=2") == [f"override train.steps=1: {what}"]


def test_the_length_that_does_not_count_is_not_written(config: Path) -> None:
    config.write_text("train: {steps: 7, max_steps: 9}\nschedule: {warmup: 2}\n")
    resolved = resolve(str(config))
    again = config.with_name("b.yaml")
    again.write_text(to_yaml(resolved))
    assert "epochs: " not in to_yaml(resolved).replace("every_epochs: ", "")
    assert resolve(str(again)).config == resolved.config
    assert RunConfig.model_validate(resolved.config.model_dump(mode="json")) == resolved.config
    assert resolved.config.train.run_length(30).steps == 7
    assert "train.steps" not in flatten_config(RunConfig())


def test_a_plateau_needs_a_metric_that_has_a_better_way(config: Path) -> None:
    config.write_text(
        "metrics: ['./own.py:quality', accuracy]\nschedule:\n  use: plateau\n  monitor: val/quality\n"
    )
    [line] = _lines(config)
    assert line.startswith(
        "4: schedule.monitor: the name val/quality does not tell whether less or more is better"
    )
    resolved = resolve(str(config), ["schedule.monitor=val/accuracy"])
    assert resolved.config.with_directions().schedule.mode == "max"
    assert resolved.origins["schedule.mode"] == "default: max, by the name val/accuracy"
    assert resolve(str(config), ["schedule.mode=min"]).config.with_directions().schedule.mode == "min"


def test_the_plateau_of_each_optimizer_is_checked_and_directed(config: Path) -> None:
    one = "\n  b:\n    lr: 0.1\n    schedule: {use: plateau, monitor: val/accuracy}"
    a = "a: {match: x, schedule: {use: plateau, monitor: val/quality}}"
    config.write_text(f"metrics: ['./own.py:quality', accuracy]\noptimizers:\n  {a}{one}\n")
    [line] = _lines(config)
    assert line.startswith(
        "3: optimizers.a.schedule.monitor: the name val/quality does not tell whether less"
    )
    config.write_text("optimizers: {c: {match: x, lr: 1}}\nschedule: {use: plateau}\n")
    assert set(resolve(str(config)).config.monitors()) == {"checkpoint", "schedule"}
    config.write_text(f"metrics: [accuracy]\noptimizers:{one}\n")
    resolved = resolve(str(config))
    directed = resolved.config.with_directions().optimizers
    assert directed is not None
    assert directed["b"].schedule is not None
    assert directed["b"].schedule.mode == "max"
    assert set(resolved.config.monitors()) == {"checkpoint", "optimizers.b.schedule"}
    assert "train.eval_every" in identity_settings(resolved.config)  # evaluations decide the rate
    assert "train.eval_every" not in identity_settings(RunConfig())


def test_only_what_is_set_of_a_schedule_counts_for_a_runs_identity() -> None:
    plain = RunConfig()
    assert {key for key in identity_settings(plain) if key.startswith("schedule.")} == {
        "schedule.use",
        "schedule.min_lr",
    }
    warm = RunConfig.model_validate({"schedule": {"warmup": "5 %"}})
    assert identity_settings(warm)["schedule.warmup"] == "5 %"
    assert identity_sha256(warm) != identity_sha256(plain)
    longer = RunConfig.model_validate({"train": {"steps": 9}})
    assert identity_sha256(longer) == identity_sha256(plain)

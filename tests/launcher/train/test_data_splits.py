"""What the plan says of hooks, and of splits beside ``train`` and ``val``."""

from __future__ import annotations

from dataclasses import replace

from lockstep.data.config.split_info import SplitInfo
from lockstep.launcher.train.data_lines import split_lines
from lockstep.launcher.train.plan import hook_lines
from lockstep.training.config.run_config import RunConfig
from tests.helpers.dataset_infos import PICTURES


def test_splits_are_told_with_what_is_done_with_them() -> None:
    test, far = SplitInfo(1200, {}), SplitInfo(7, {})
    asked = "only by `launch eval --split test`"
    assert split_lines(PICTURES) == []
    assert split_lines(replace(PICTURES, others={"test": test})) == [f"also test 1,200: evaluated {asked}"]
    both = replace(PICTURES, others={"val_far": far, "test": test})
    assert split_lines(both) == [f"also val_far 7, test 1,200: evaluated as val is; test {asked}"]
    assert split_lines(replace(PICTURES, others={"val_far": far})) == ["also val_far 7: evaluated as val is"]


def test_hooks_are_told() -> None:
    assert hook_lines(RunConfig()) == []
    assert hook_lines(RunConfig.model_validate({"hooks": "./exp.py"})) == ["hooks: ./exp.py"]
    named = {"hooks": {"on_end": "./exp.py:b", "on_step": "./exp.py:a"}}
    assert hook_lines(RunConfig.model_validate(named)) == ["hooks: on_step ./exp.py:a, on_end ./exp.py:b"]

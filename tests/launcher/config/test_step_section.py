"""The ``step:`` section beside ``loss:``."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.config.resolution import resolve, to_yaml

CODE = "def step(model, batch, beta): ...\n"


def _config(folder: Path, text: str) -> str:
    (folder / "exp.py").write_text(CODE)
    (folder / "config.yaml").write_text(f"data: {{use: './exp.py:data'}}\n{text}")
    return str(folder / "config.yaml")


def test_a_step_beside_a_loss_is_refused(tmp_path: Path) -> None:
    step = "step: {use: './exp.py:step', args: {beta: 1}}\n"
    assert resolve(_config(tmp_path, step)).config.step is not None
    with pytest.raises(
        UsageError, match=r":3: loss: the step computes it; leave one of the two sections out"
    ):
        resolve(_config(tmp_path, step + "loss: {use: cross_entropy}"))


def test_the_arguments_of_a_step_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"step.args: ./exp.py:step needs beta"):
        resolve(_config(tmp_path, "step: ./exp.py:step"))
    wrong = "step: {use: './exp.py:step', args: {beta: 1, gamma: 2}}"
    with pytest.raises(UsageError, match=r"step.args.gamma: ./exp.py:step has no such argument"):
        resolve(_config(tmp_path, wrong))


def test_a_config_with_a_step_reads_back_as_the_same(tmp_path: Path) -> None:
    resolved = resolve(_config(tmp_path, "step: {use: './exp.py:step', args: {beta: 1}}"))
    (tmp_path / "again.yaml").write_text(to_yaml(resolved))
    assert resolve(str(tmp_path / "again.yaml")).config == resolved.config


def test_frozen_models_are_arguments_of_the_step(tmp_path: Path) -> None:
    frozen = "model: {use: mlp, frozen: {beta: {use: mlp}}}\n"
    config = resolve(_config(tmp_path, frozen + "step: ./exp.py:step")).config
    assert config.model.frozen["beta"].use == "mlp"
    with pytest.raises(UsageError, match=r"model.frozen: only a step is given such models"):
        resolve(_config(tmp_path, frozen))

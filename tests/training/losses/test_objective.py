"""What a step may return, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lockstep.data.common.errors import TrainingError
from lockstep.training.config.run_config import RunConfig
from lockstep.training.losses.loss_contract import term_sums
from lockstep.training.losses.losses import build_objective
from lockstep.training.losses.objective import StepObjective


def _outcome(returned: Any, batch: Any) -> Any:
    objective = StepObjective(lambda _, __: returned, "./exp.py:step")
    return objective(objective.callable_module(nn.Linear(1, 1)), batch)


def test_a_step_may_return_a_loss_alone() -> None:
    losses = torch.ones(3)
    outcome = _outcome(losses, {"x": losses})
    assert outcome.loss is losses
    assert (outcome.output, outcome.target, dict(outcome.terms)) == (None, {"x": losses}, {})
    assert _outcome((losses.sum(), 3), (losses, "y")).target == "y"


def test_the_loss_is_one_of_several_terms_and_the_output_is_none() -> None:
    returned = {"kl": torch.ones(2), "output": "made", "loss": torch.zeros(2)}
    outcome = _outcome(returned, ("x", "y"))
    assert outcome.loss is returned["loss"]
    assert (outcome.output, outcome.target) == ("made", "y")
    assert list(outcome.terms) == ["kl"]
    assert list(returned) == ["kl", "output", "loss"], "the step may keep what it returned"


def test_terms_without_a_loss_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"exp.py:step returned a dict of kl: none of them is"):
        _outcome({"kl": torch.ones(2)}, None)


def test_each_term_has_a_weight_of_its_own() -> None:
    terms = {"b": (torch.tensor(3.0), torch.tensor(0.5)), "a": torch.tensor([1.0, 2.0])}
    sums = term_sums(terms, ("a", "b"), 2)
    assert sums.tolist() == [[3.0, 2.0], [3.0, 0.5]]
    assert sums.dtype == torch.float64


def test_other_terms_than_at_first_are_refused() -> None:
    with pytest.raises(TrainingError, match="the terms b, and a at first"):
        term_sums({"b": torch.ones(1)}, ("a",), 1)
    with pytest.raises(TrainingError, match="the step, for 'a', returned a single number for 2 samples"):
        term_sums({"a": torch.tensor(1.0)}, ("a",), 2)


def test_the_arguments_of_a_step_are_bound(tmp_path: Path) -> None:
    (tmp_path / "exp.py").write_text("def step(model, batch, scale): return model(batch) * scale\n")
    config = RunConfig.model_validate({"step": {"use": "./exp.py:step", "args": {"scale": 3}}})
    objective = build_objective(config, tmp_path, {})
    module = objective.callable_module(nn.Identity())
    assert objective(module, torch.ones(2)).loss.tolist() == [3.0, 3.0]
    assert config.model_dump()["step"] == {"use": "./exp.py:step", "args": {"scale": 3}}
    assert RunConfig.model_validate({"step": "./exp.py:step"}).model_dump()["step"] == "./exp.py:step"


def test_samples_are_any_tree_for_a_step_alone() -> None:
    assert RunConfig.model_validate({"step": "./exp.py:step"}).data.samples == "any"
    assert RunConfig.model_validate({}).data.samples is None
    strict = RunConfig.model_validate({"step": "./exp.py:step", "data": {"samples": "pairs"}})
    assert RunConfig.model_validate(strict.model_dump(mode="json")) == strict

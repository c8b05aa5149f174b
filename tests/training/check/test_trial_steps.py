"""How far the parameters of two trainings are apart."""

from __future__ import annotations

import pytest
import torch

from lockstep.training.check.trial_steps import largest_difference


def test_the_worst_parameter_is_relative_to_its_size_and_rounding_is_no_parameter() -> None:
    one = {
        "large": torch.tensor([100.0, 1.0]),
        "small": torch.tensor([1.0]),
        "rounding": torch.tensor([1e-17]),
    }
    assert largest_difference(one, one) == {"name": "", "difference": 0.0, "relative": 0.0}
    other = {"large": one["large"] + 0.01, "small": one["small"] + 0.001, "rounding": one["rounding"] * -1}
    found = largest_difference(one, other)
    assert found["name"] == "small"
    assert found["relative"] == pytest.approx(1e-3, rel=1e-3)
    assert largest_difference(one, {"large": one["large"], "small": one["small"]})["name"] == "rounding"
    for name in one:
        assert largest_difference(one, {**other, name: one[name] * float("nan")})["name"] == name

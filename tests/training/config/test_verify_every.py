"""``train.verify_every``: how it is written."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lockstep.training.config.config_identity import identity_settings
from lockstep.training.config.run_config import RunConfig, TrainConfig


@pytest.mark.parametrize(
    ("written", "steps"), [(7, 7), ("auto", 100), ("off", None), (False, None), (None, None)]
)
def test_steps_and_words_are_read(written: Any, steps: int | None) -> None:
    assert TrainConfig.model_validate({"verify_every": written}).verify_every == steps


@pytest.mark.parametrize("written", [0, -1, "often", True, 1.5])
def test_anything_else_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError, match="verify_every"):
        TrainConfig.model_validate({"verify_every": written})


def test_parts_of_parameters_are_not_compared() -> None:
    with pytest.raises(ValidationError, match="no two ranks hold the same"):
        TrainConfig(verify_every=5, strategy="fsdp")


def test_a_resumed_run_may_have_another() -> None:
    asked = RunConfig(train=TrainConfig(verify_every=5))
    assert identity_settings(asked) == identity_settings(RunConfig())

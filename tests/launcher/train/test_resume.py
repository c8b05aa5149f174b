from __future__ import annotations

from typing import Any

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.train.resume import _refuse_identity
from lockstep.training.config.run_config import RunConfig


def _refused(**changes: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        _refuse_identity("first", RunConfig(), RunConfig.model_validate(changes))
    return caught.value


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"optimizer": {"lr": 0.0001}}, "optimizer.lr=0.0001"),
        (
            {"schedule": {"use": "cosine"}, "loss": {"use": "mse"}},
            "loss.use='\"mse\"' 'schedule.use=\"cosine\"'",
        ),
        ({"data": {"batch_size": 7}}, "data.batch_size=7"),
    ],
)
def test_a_run_with_other_settings_is_a_new_one_that_may_begin_with_its_weights(
    changes: dict[str, Any], asked: str
) -> None:
    error = _refused(**changes)
    assert "first was started with other settings" in error.message
    assert "`launch resume first`" in error.hint
    command = error.hint.rpartition(": ")[2]
    assert command.startswith("`launch train CONFIG ")
    assert command.endswith(" model.weights=first --name NEW`")
    assert asked.replace("'", "") in command.replace("'", "")


def test_the_weights_of_another_model_are_not_recommended() -> None:
    assert "model.weights" not in _refused(model={"use": "linear"}, optimizer={"lr": 0.5}).hint


def test_what_may_change_is_not_refused() -> None:
    _refuse_identity(
        "first", RunConfig(), RunConfig.model_validate({"train": {"unused": "allow", "epochs": 9}})
    )

"""Parameters that a model gets while it trains."""

from __future__ import annotations

import pytest
from torch import nn

from lockstep.data.common.errors import TrainingError
from lockstep.training.tensors.late_parameters import ParameterWatch


def test_a_parameter_that_was_not_there_is_refused_and_another_models_is_not() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    watch = ParameterWatch(model)
    nn.Linear(2, 2)
    model[0].same = model[0].weight
    watch.refuse_new(3)
    model.append(nn.Linear(2, 1))
    with pytest.raises(TrainingError, match=r"made 1\.weight, 1\.bias before step 5"):
        watch.refuse_new(4)

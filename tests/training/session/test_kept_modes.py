"""A model that is in another mode for a while, whatever its own methods do."""

from __future__ import annotations

from typing import Self

import pytest
from torch import nn

from lockstep.training.session.kept_modes import training_mode


class Merging(nn.Module):
    """A model that changes more than a flag when its mode does, as adapters do that are merged in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Dropout(), nn.Dropout().eval()])
        self.merged = False

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - as in nn.Module
        self.merged = not mode
        return super().train(mode)


@pytest.mark.parametrize("training", [True, False])
def test_afterwards_every_module_is_as_it_was(*, training: bool) -> None:
    model = Merging()
    with training_mode(model, training=training):
        assert [model.merged, *(part.training for part in model.parts)] == [not training, training, training]
    assert [model.training, model.merged] == [True, False]
    assert [part.training for part in model.parts] == [True, False]
    with pytest.raises(KeyError), training_mode(model, training=training):
        raise KeyError
    assert not model.merged

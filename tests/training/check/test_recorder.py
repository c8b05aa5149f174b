"""What the modules of a model were given and returned."""

from __future__ import annotations

import torch
from torch import nn

from lockstep.training.check.tensor_recorder import Recorder, first_difference


def test_recordings_that_end_early_differ() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with Recorder(model) as recorder:
        model(torch.ones(1, 2))
    marks = recorder.marks
    assert [mark.kind for mark in marks] == ["enter", "enter", "leave", "enter", "leave", "leave"]
    assert first_difference(marks, list(marks)) is None
    assert first_difference(marks, marks[:-1]) == marks[-1]
    model(torch.ones(1, 2))
    assert len(recorder.marks) == len(marks)

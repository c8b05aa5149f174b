"""``lockstep.gather`` where nothing is to be gathered, or not yet; what it does on several ranks is run end to end."""

from __future__ import annotations

import pytest
import torch

import lockstep
from lockstep.data.common.errors import TrainingError
from lockstep.training.rank.batch_gather import BatchShares, GatherTrial, gathering


def test_outside_of_a_run_a_batch_is_whole() -> None:
    values = torch.ones(3, 2)
    assert lockstep.gather(values) is values
    assert lockstep.own_rows(values) is values


def test_a_trial_notes_that_it_is_called() -> None:
    with gathering(trial := GatherTrial()):
        assert not trial.used
        lockstep.gather(torch.ones(2))
    assert trial.used


def test_a_rank_finds_its_own_rows() -> None:
    rows = torch.arange(7)
    with gathering(BatchShares(1, [2, 2, 3], stand_in=False, own_group=None)):
        assert lockstep.own_rows(rows).tolist() == [2, 3]
        with pytest.raises(TrainingError, match=r"got the shape \[3\] of 2 samples"):
            lockstep.gather(torch.ones(3))
    with gathering(BatchShares(0, [0, 0, 1], stand_in=True, own_group=None)):
        assert lockstep.own_rows(rows[:1]).tolist() == [0, 0]
    with gathering(BatchShares(0, [7], stand_in=False, own_group=None)):
        assert lockstep.gather(rows) is rows

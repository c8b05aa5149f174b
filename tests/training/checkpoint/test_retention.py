"""Which checkpoints stay."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from lockstep.training.checkpoint.retention import BestCheckpoints, superseded
from lockstep.training.config.run_config import CheckpointConfig


def test_the_best_are_kept_the_older_of_equals() -> None:
    config, ranking = CheckpointConfig(keep_best=2), BestCheckpoints()
    kept = [
        ranking.update(config, step, {"val/loss": loss})
        for step, loss in enumerate([3.0, 2.0, 2.0, 2.0, 1.0, math.nan])
    ]
    assert kept == [True, True, True, False, True, False]
    assert ranking.steps == {4, 1}
    assert not BestCheckpoints().update(CheckpointConfig(keep_best=0), 1, {"val/loss": 1.0})
    assert not BestCheckpoints().update(CheckpointConfig(), 1, {"train/loss": 1.0})


def test_what_is_no_number_is_never_the_best_not_even_the_only_one() -> None:
    config, ranking = CheckpointConfig(keep_best=2, monitor="val/accuracy"), BestCheckpoints()
    values = [math.nan, math.inf, -math.inf, 0.1]
    assert [ranking.update(config, step, {"val/accuracy": value}) for step, value in enumerate(values)] == [
        False, False, False, True,
    ]  # fmt: skip
    assert ranking.steps == {3}


def test_an_evaluation_that_is_repeated_after_a_resume_has_one_place() -> None:
    config, ranking = CheckpointConfig(keep_best=2), BestCheckpoints()
    for step, loss in ((1, 3.0), (2, 2.0), (2, 2.0)):
        ranking.update(config, step, {"val/loss": loss})
    assert ranking.entries == [{"step": 2, "value": 2.0}, {"step": 1, "value": 3.0}]


@given(
    st.sets(st.integers(0, 40), min_size=1),
    st.one_of(st.none(), st.integers(1, 5)),
    st.sets(st.integers(0, 40), max_size=3),
)
def test_what_goes_is_neither_among_the_newest_nor_the_best(
    found: set[int], keep_last: int | None, best: set[int]
) -> None:
    going = set(superseded(list(found), keep_last, best))
    assert going <= found - best
    newest = sorted(found)[-(keep_last or len(found)) :]
    assert going == found - best - set(newest)

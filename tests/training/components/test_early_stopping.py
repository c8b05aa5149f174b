from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.training.checkpoint.retention import BestCheckpoints
from lockstep.training.components.early_stopping import EarlyStopping, oriented, refuse_unmeasured
from lockstep.training.config.monitor import EarlyStopConfig
from lockstep.training.config.run_config import CheckpointConfig

LOSS = EarlyStopConfig(patience=2)


def _after(config: EarlyStopConfig, values: list[float]) -> EarlyStopping:
    patience = EarlyStopping()
    for value in values:
        patience.update(config, {config.monitor: value})
    return patience


@pytest.mark.parametrize(
    ("name", "mode", "lower"),
    [
        ("val/loss", "auto", True),
        ("val/error_rate", "auto", True),
        ("val/mae", "auto", True),
        ("val/accuracy", "auto", False),
        ("val/accuracy", "min", True),
        ("val/loss", "max", False),
    ],
)
def test_which_way_is_better(name: str, mode: str, *, lower: bool) -> None:
    config = EarlyStopConfig.model_validate({"monitor": name, "mode": mode})
    assert (oriented(config, 1.0) > oriented(config, 2.0)) is lower


def test_patience_counts_epochs_without_a_gain() -> None:
    assert [_after(LOSS, [3, 2, 2.5][:n]).stalled for n in (1, 2, 3)] == [0, 0, 1]
    ended = _after(LOSS, [3, 2, 2.5, 2])
    assert (ended.best, ended.stalled, ended.is_over(LOSS)) == (2, 2, True)
    assert not _after(LOSS, [3, 2, 2.5, 1.9]).is_over(LOSS)
    assert not ended.is_over(None)


def test_a_gain_is_more_than_min_delta() -> None:
    config = EarlyStopConfig(patience=1, min_delta=0.5, monitor="val/accuracy")
    assert _after(config, [1.0, 1.5]).stalled == 1
    assert _after(config, [1.0, 1.51]).stalled == 0


def test_what_is_no_number_is_no_gain() -> None:
    assert _after(LOSS, [math.nan, math.nan]).is_over(LOSS)
    assert _after(LOSS, [math.nan, 3.0]) == EarlyStopping("val/loss", 3.0, 0)


def test_patience_for_another_metric_begins_anew() -> None:
    patience = _after(LOSS, [1.0, 2.0, 3.0])
    other = EarlyStopConfig(monitor="val/accuracy", patience=2)
    assert not patience.is_over(other)
    patience.update(other, {"val/accuracy": 0.5})
    assert patience == EarlyStopping("val/accuracy", 0.5, 0)


def test_patience_and_ranking_survive_the_state_file() -> None:
    patience = _after(LOSS, [3, 2, 2.5])
    assert EarlyStopping(**asdict(patience)) == patience
    ranking = BestCheckpoints()
    ranking.update(CheckpointConfig(), 10, {"val/loss": 1.0})
    assert BestCheckpoints(**asdict(ranking)) == ranking


def test_a_metric_that_is_not_measured_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        refuse_unmeasured(
            EarlyStopConfig(monitor="val/acuracy"), "train.early_stop", ["train/loss", "val/accuracy"]
        )
    assert "train.early_stop.monitor: val/acuracy is not measured; did you mean val/accuracy?" in str(
        caught.value
    )

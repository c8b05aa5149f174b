from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.training.config.config_identity import identity_settings
from lockstep.training.config.run_config import RunConfig
from lockstep.training.metrics.additive_metric import AdditiveMetric, as_numbers
from lockstep.training.metrics.metrics import build_confusion_matrix, build_metrics

OUTPUT = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 5.0]])
TARGET = torch.tensor([0, 2, 2])
CODE = """
import torch

def spread(output, target):
    return {"sum": target.double().sum(), "squares": (target.double() ** 2).sum(), "n": len(target)}

def variance(total):
    assert total["n"].dtype == torch.int64 and total["sum"].dtype == torch.float64
    return total["squares"] / total["n"] - (total["sum"] / total["n"]) ** 2

def both(total):
    return {"variance": variance(total), "n": total["n"]}

def other(output, target):
    return {"sum": target.double().sum()}
other.finish = lambda total: total["sum"]

def broken(total):
    return total["nothing"]
"""


def _metric(tmp_path: Path, **said: Any) -> AdditiveMetric:
    (tmp_path / "exp.py").write_text(CODE)
    config = RunConfig.model_validate({"metrics": [{"use": "./exp.py:spread", **said}]})
    (metric,) = build_metrics(config, tmp_path).values()
    assert isinstance(metric, AdditiveMetric)
    return metric


def test_totals_are_finished_once_in_the_types_that_they_had(tmp_path: Path) -> None:
    metric = _metric(tmp_path, finish="./exp.py:both", name="mine")
    totals = metric.row(OUTPUT[:1], TARGET[:1]) + metric.row(OUTPUT[1:], TARGET[1:])
    assert metric.numbers(totals) == {"mine/variance": pytest.approx(8 / 9), "mine/n": 3.0}
    assert metric.width == 3


def test_a_finish_may_be_an_attribute_of_the_function(tmp_path: Path) -> None:
    metric = _metric(tmp_path, use="./exp.py:other")
    assert metric.numbers(metric.row(OUTPUT, TARGET)) == {"other": 4.0}


def test_whole_numbers_are_exact_or_refused(tmp_path: Path) -> None:
    metric = AdditiveMetric("n", lambda _, target: {"n": target.sum()}, lambda total: total["n"])
    row = metric.row(OUTPUT, torch.tensor([2**53 - 2, 1]))
    assert metric.numbers(row) == {"n": float(2**53 - 1)}
    with pytest.raises(TrainingError, match=r"beyond 2\^53"):
        metric.numbers(row + 1)


def test_statistics_keep_their_structure_from_batch_to_batch() -> None:
    metric = AdditiveMetric("seen", lambda _, target: {"n": target.unique()}, lambda total: total["n"])
    metric.row(OUTPUT, TARGET)
    with pytest.raises(TrainingError, match=r"shapes \(1,\) for one batch, and .* \(2,\) for another"):
        metric.row(OUTPUT, TARGET[:1])
    with pytest.raises(TrainingError, match="hold str"):
        AdditiveMetric("text", lambda *_: {"n": "one"}, lambda total: total["n"]).row(OUTPUT, TARGET)


def test_a_finish_that_raises_or_returns_no_number_is_told_by_name(tmp_path: Path) -> None:
    metric = _metric(tmp_path, finish="./exp.py:broken")
    with pytest.raises(TrainingError, match=r"metric spread: its finish raised .*exp.py:\d+.*KeyError"):
        metric.numbers(metric.row(OUTPUT, TARGET))
    with pytest.raises(TrainingError, match=r"metric m: its result is Tensor of shape \(3,\)"):
        as_numbers("m", torch.ones(3))
    assert as_numbers("m", {"a": torch.tensor(2), "b": 1}) == {"m/a": 2.0, "m/b": 1.0}


def test_a_mean_of_nothing_is_no_number() -> None:
    metric = AdditiveMetric("m", lambda *_: (0.0, 0))
    assert math.isnan(metric.numbers(metric.row(OUTPUT, TARGET))["m"])


def test_one_function_may_be_used_twice_under_two_names(tmp_path: Path) -> None:
    twice = [
        {"use": "f1", "args": {"average": average}, "name": f"f1_{average}"} for average in ("macro", "micro")
    ]
    config = RunConfig.model_validate({"metrics": twice})
    assert config.model_dump(mode="json")["metrics"] == twice
    assert list(build_metrics(config, tmp_path)) == ["f1_macro", "f1_micro"]
    assert config.direction_of("val/f1_macro") == config.direction_of("val_other/f1_micro") == "max"
    with pytest.raises(UsageError, match="f1 would be logged as val/f1, which is taken"):
        build_metrics(RunConfig.model_validate({"metrics": ["f1", {"use": "f1", "args": {}}]}), tmp_path)
    assert identity_settings(config) != identity_settings(RunConfig.model_validate({"metrics": twice[:1]}))


def test_the_numbers_of_a_metric_have_its_direction() -> None:
    config = RunConfig.model_validate({"metrics": [{"use": "./exp.py:q", "better": "lower"}]})
    assert config.direction_of("val/q/cats") == config.direction_of("val_far/q") == "min"
    assert config.direction_of("val/qq") is None


def test_a_confusion_matrix_is_kept_of_a_loss_of_few_classes() -> None:
    metric = build_confusion_matrix(RunConfig(), {})
    assert metric is not None
    metric.row(OUTPUT, TARGET)
    assert metric.width == 3 * 3 + 2
    assert build_confusion_matrix(RunConfig.model_validate({"loss": {"use": "mse"}}), {}) is None
    words = build_confusion_matrix(RunConfig(), {})
    assert words is not None
    words.row(torch.zeros(3, 5000), TARGET)
    assert words.width == 0

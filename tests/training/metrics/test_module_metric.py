"""Metrics that are objects with states: torchmetrics' own, and one with the same protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.training.config.run_config import RunConfig
from lockstep.training.metrics.metrics import build_metrics
from lockstep.training.metrics.module_metric import ModuleMetric
from lockstep.training.rank.process_group import Group
from tests.helpers.threaded_ranks import threaded_groups

CPU = torch.device("cpu")
SCORES = torch.randn(31, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = torch.randint(3, (31,), generator=torch.Generator().manual_seed(2))


def dim_zero_sum() -> None: ...
def dim_zero_max() -> None: ...
def dim_zero_mean() -> None: ...
def dim_zero_cat() -> None: ...
def own_way() -> None: ...


class Spread:
    """The protocol of torchmetrics, without torchmetrics."""

    def __init__(self, **reductions: Callable[..., Any] | None) -> None:
        self._defaults: dict[str, Any] = {
            "total": torch.tensor(0.0),
            "most": torch.tensor(-9.0),
            "seen": [],
            "raw": [],
        }
        named = {"total": dim_zero_sum, "most": dim_zero_max, "seen": dim_zero_cat, "raw": None}
        self._reductions = {**named, **reductions}
        self.reset()

    def reset(self) -> None:
        for name, default in self._defaults.items():
            setattr(self, name, [] if isinstance(default, list) else default.clone())

    def update(self, output: torch.Tensor, target: torch.Tensor) -> None:
        self.total += output.sum()
        self.most = torch.maximum(self.most, output.max())
        self.seen.append(target)
        self.raw.append(output[:1])

    def compute(self) -> dict[str, Any]:
        seen = torch.cat(self.seen) if len(self.seen) else torch.zeros(0)
        order = (seen * torch.arange(len(seen))).sum()
        return {"total": self.total, "most": self.most, "order": order, "raw": len(self.raw)}


def _both_ranks(make: Callable[[], Any], cut: int) -> list[dict[str, float]]:
    """What two ranks say of the first ``cut`` samples and of the rest."""
    metrics = [ModuleMetric("m", make(), CPU) for _ in range(2)]
    parts = [(SCORES[:cut], LABELS[:cut]), (SCORES[cut:], LABELS[cut:])]
    for metric, (output, target) in zip(metrics, parts, strict=True):
        for piece in zip(output.split(4), target.split(4), strict=True):
            if len(piece[0]):
                metric.row(*piece)
    threads = [
        threading.Thread(target=metric.reduce, args=(group,))
        for metric, group in zip(metrics, threaded_groups(), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [metric.numbers() for metric in metrics]


def _alone(make: Callable[[], Any]) -> dict[str, float]:
    metric = ModuleMetric("m", make(), CPU)
    for piece in zip(SCORES.split(4), LABELS.split(4), strict=True):
        assert metric.row(*piece).numel() == 0
    metric.reduce(Group(0, 0, 1, CPU))
    return metric.numbers()


@pytest.mark.parametrize("cut", [12, 31])
def test_states_are_reduced_as_they_say_in_the_order_of_the_samples(cut: int) -> None:
    one = _alone(Spread)
    assert one["m/order"] == float((LABELS * torch.arange(31)).sum())
    for said in _both_ranks(Spread, cut):
        assert said == pytest.approx(one, rel=1e-14)


def test_sums_are_kept_in_float64() -> None:
    metric = ModuleMetric("m", Spread(), CPU)
    metric.row(torch.tensor([[2.0**24]]), torch.zeros(1))
    metric.row(torch.tensor([[1.0]]), torch.zeros(1))
    assert metric.numbers()["m/total"] == 2.0**24 + 1


@pytest.mark.parametrize(
    ("reductions", "words"),
    [
        ({"total": dim_zero_mean}, "the mean of ranks is not that of samples"),
        ({"total": own_way}, "reduces its state 'total' by own_way: nobody knows"),
        ({"total": None}, "reduces its state 'total' by nothing"),
    ],
)
def test_states_that_are_not_exact_are_refused_by_name(reductions: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ModuleMetric("m", Spread(**reductions), CPU)


def test_what_hides_its_states_and_what_raises_is_told(tmp_path: Path) -> None:
    (tmp_path / "exp.py").write_text(
        "class Hidden:\n"
        "    def update(self, o, t): ...\n"
        "    def compute(self): ...\n"
        "    def __call__(self, o, t): ...\n"
    )
    config = RunConfig.model_validate({"metrics": ["./exp.py:Hidden"]})
    with pytest.raises(UsageError, match="keeps its states where nobody can reduce them"):
        build_metrics(config, tmp_path)
    metric = ModuleMetric("m", Spread(), CPU)
    with pytest.raises(TrainingError, match="metric m: update raised"):
        metric.row("no tensor", None)


@pytest.mark.parametrize("name", ["MulticlassF1Score", "MulticlassAUROC", "MulticlassCalibrationError"])
def test_those_of_torchmetrics_work_as_they_are(name: str) -> None:
    module = pytest.importorskip("torchmetrics.classification")

    def make() -> Any:
        return getattr(module, name)(num_classes=3)

    whole = make()
    whole.update(SCORES, LABELS)
    one = _alone(make)["m"]
    assert one == pytest.approx(float(whole.compute()), rel=1e-6)
    for cut in (7, 31):
        assert [said["m"] for said in _both_ranks(make, cut)] == [pytest.approx(one, rel=1e-14)] * 2


def test_those_of_torchmetrics_that_merge_in_their_own_way_are_refused(tmp_path: Path) -> None:
    modules = pytest.importorskip("torchmetrics")
    config = RunConfig.model_validate({"metrics": ["torchmetrics.regression:PearsonCorrCoef"]})
    with pytest.raises(UsageError, match="by nothing: nobody knows"):
        build_metrics(config, tmp_path)
    with pytest.raises(UsageError, match="made of other metrics"):
        ModuleMetric("m", modules.MinMaxMetric(modules.MeanMetric()), CPU)


def test_one_of_torchmetrics_is_named_by_its_class(tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    said = {"use": "torchmetrics.classification:MulticlassF1Score", "args": {"num_classes": 3}}
    (name,) = build_metrics(RunConfig.model_validate({"metrics": [said]}), tmp_path)
    assert name == "MulticlassF1Score"

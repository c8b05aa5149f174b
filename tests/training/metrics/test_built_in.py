"""The built-in metrics by numbers, against what a loop over samples counts, of a whole and of its parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.data.common.errors import TrainingError
from lockstep.training.config.run_config import RunConfig
from lockstep.training.metrics.additive_metric import AdditiveMetric
from lockstep.training.metrics.metrics import METRICS, build_metrics

GENERATOR = torch.Generator().manual_seed(3)
SCORES = torch.randn(60, 5, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.randint(4, (60,), generator=GENERATOR)  # class 4 is predicted, and never true
BINARY = torch.randint(2, (60,), generator=GENERATOR)
IMAGES = torch.randn(6, 3, 4, 5, generator=GENERATOR, dtype=torch.float64)
MASKS = torch.randint(3, (6, 4, 5), generator=GENERATOR)
VALUES = torch.randn(60, 2, generator=GENERATOR, dtype=torch.float64)
TRUTH = VALUES + 0.3 * torch.randn(60, 2, generator=GENERATOR, dtype=torch.float64) + 7
Loop = Callable[[list[Any], list[Any]], float]


def _metric(use: str, **args: Any) -> AdditiveMetric:
    config = RunConfig.model_validate(
        {"metrics": [{"use": use, "args": args, "name": "it"}], "loss": {"use": "mse"}}
    )
    (metric,) = build_metrics(config, Path()).values()
    assert isinstance(metric, AdditiveMetric)
    return metric


def _value(metric: AdditiveMetric, output: torch.Tensor, target: torch.Tensor, parts: list[int]) -> float:
    pieces = zip(output.split(parts), target.split(parts), strict=True)
    return metric.numbers(torch.stack([metric.row(*piece) for piece in pieces]).sum(0))["it"]


def _rates(score: Callable[[int, int, int], float]) -> Loop:
    """The mean over the classes that occur of a function of (hits, predicted, true)."""

    def loop(predicted: list[int], true: list[int]) -> float:
        found = []
        for label in sorted({*predicted, *true}):
            hits = sum(p == t == label for p, t in zip(predicted, true, strict=True))
            found.append(score(hits, predicted.count(label), true.count(label)))
        return sum(found) / len(found)

    return loop


def _f1(hits: int, predicted: int, true: int) -> float:
    return 2 * hits / (predicted + true)


def _weighted(predicted: list[int], true: list[int]) -> float:
    return sum(_of(predicted, true, label) * true.count(label) for label in set(true)) / len(true)


def _of(predicted: list[int], true: list[int], label: int) -> float:
    hits = sum(p == t == label for p, t in zip(predicted, true, strict=True))
    return _f1(hits, predicted.count(label), true.count(label))


CLASSES: dict[str, tuple[str, dict[str, Any], Loop]] = {
    "f1": ("f1", {}, _rates(_f1)),
    "weighted f1": ("f1", {"average": "weighted"}, _weighted),
    "micro f1": (
        "f1",
        {"average": "micro"},
        lambda p, t: sum(a == b for a, b in zip(p, t, strict=True)) / len(t),
    ),
    "precision": ("precision", {}, _rates(lambda hits, predicted, _: hits / predicted if predicted else 0.0)),
    "recall": ("recall", {}, _rates(lambda hits, _, true: hits / true if true else 0.0)),
    "mean_iou": ("mean_iou", {}, _rates(lambda hits, p, t: hits / (p + t - hits))),
}


@pytest.mark.parametrize("parts", [[60], [1, 23, 36]])
@pytest.mark.parametrize("name", CLASSES)
def test_metrics_of_classes_are_those_of_a_loop(name: str, parts: list[int]) -> None:
    use, args, loop = CLASSES[name]
    expected = loop(SCORES.argmax(1).tolist(), LABELS.tolist())
    assert _value(_metric(use, **args), SCORES, LABELS, parts) == pytest.approx(expected, rel=1e-14)


def test_a_score_for_each_target_says_yes_above_its_threshold() -> None:
    logits = SCORES[:, 0]
    for shift in (0.0, 0.4):
        predicted = (logits > shift).long().tolist()
        expected = _of(predicted, BINARY.tolist(), 1)
        metric = _metric("f1", average="binary", threshold=shift)
        for output in (logits, logits[:, None]):
            assert _value(metric, output, BINARY, [7, 53]) == pytest.approx(expected, rel=1e-14)


def test_pixels_count_and_a_label_is_left_out() -> None:
    kept = MASKS != 2
    predicted = IMAGES.argmax(1)
    expected = CLASSES["mean_iou"][2](predicted[kept].tolist(), MASKS[kept].tolist())
    assert _value(_metric("mean_iou", ignore_index=2), IMAGES, MASKS, [1, 5]) == pytest.approx(
        expected, rel=1e-14
    )


def test_targets_that_are_no_class_and_other_averages_are_refused() -> None:
    metric = _metric("f1")
    totals = metric.row(SCORES, LABELS + 3)
    with pytest.raises(TrainingError, match=r"\d+ targets are not classes from 0 to 4"):
        metric.numbers(totals)
    with pytest.raises(TrainingError, match="for two classes, the model has 5"):
        _value(_metric("f1", average="binary"), SCORES, LABELS, [60])
    with pytest.raises(TrainingError, match="no average 'marco'"):
        _metric("f1", average="marco")
    with pytest.raises(TrainingError, match=r"returned the shape \(60, 5\), the targets have \(60, 2\)"):
        metric.row(SCORES, TRUTH)


def test_top_k_finds_the_class_among_the_best() -> None:
    order = SCORES.argsort(1, descending=True)[:, :2].tolist()
    expected = sum(label in best for label, best in zip(LABELS.tolist(), order, strict=True)) / 60
    assert _value(_metric("top_k", k=2), SCORES, LABELS, [20, 40]) == expected
    with pytest.raises(TrainingError, match="k is 6, of 5 classes"):
        _metric("top_k", k=6).row(SCORES, LABELS)


def test_errors_of_numbers() -> None:
    errors = (VALUES - TRUTH).square()
    spread = (TRUTH - TRUTH.mean(0)).square().sum(0)
    expected = {
        "rmse": math.sqrt(float(errors.mean())),
        "r2": float((1 - errors.sum(0) / spread).mean()),
        "mae": float((VALUES - TRUTH).abs().mean()),
    }
    for use, value in expected.items():
        assert _value(_metric(use), VALUES, TRUTH, [1, 19, 40]) == pytest.approx(value, rel=1e-12), use
    constant = torch.ones(4, 1, dtype=torch.float64)
    assert _value(_metric("r2"), constant, constant, [1, 3]) == 1.0
    assert _value(_metric("r2"), constant + 1, constant, [1, 3]) == 0.0


def test_perplexity_is_of_all_tokens_that_count() -> None:
    target = torch.where(LABELS == 1, -100, LABELS)
    losses = [-float(SCORES[i].log_softmax(0)[t]) for i, t in enumerate(target.tolist()) if t >= 0]
    expected = math.exp(sum(losses) / len(losses))
    assert _value(_metric("perplexity"), SCORES, target, [30, 30]) == pytest.approx(expected, rel=1e-13)


def _area(scores: list[float], true: list[bool]) -> float:
    pairs = [
        (a, b)
        for a, t in zip(scores, true, strict=True)
        if t
        for b, u in zip(scores, true, strict=True)
        if not u
    ]
    return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)


def test_the_area_under_the_curve_is_that_of_binned_scores() -> None:
    logits = SCORES[:, 0]
    bins = ((logits + 16) / 32 * 50).long().tolist()
    expected = _area(bins, (BINARY == 1).tolist())
    assert _value(_metric("auroc", bins=50), logits, BINARY, [1, 59]) == pytest.approx(expected, rel=1e-14)
    fine = _area(logits.tolist(), (BINARY == 1).tolist())
    assert _value(_metric("auroc", bins=10**6), logits, BINARY, [1, 59]) == pytest.approx(fine, rel=1e-14)
    likely = _metric("auroc", bins=10**6, logits=False)
    assert _value(likely, logits.sigmoid(), BINARY, [60]) == pytest.approx(fine, rel=1e-14)
    two = torch.stack([torch.zeros_like(logits), logits], 1)
    assert _value(_metric("auroc", bins=10**6), two, BINARY, [60]) == pytest.approx(fine, rel=1e-14)
    shares = SCORES.softmax(1)
    many = [_area(shares[:, label].tolist(), (label == LABELS).tolist()) for label in range(4)]
    found = _value(_metric("auroc", bins=10**6), SCORES, LABELS, [13, 47])
    assert found == pytest.approx(sum(many) / 4, rel=1e-12)


def test_a_metric_leaves_out_what_the_loss_leaves_out() -> None:
    loss = {"use": "cross_entropy", "args": {"ignore_index": 1}}
    config = RunConfig.model_validate({"loss": loss, "metrics": ["f1", "perplexity", "accuracy"]})
    kept = LABELS != 1
    plain = build_metrics(RunConfig.model_validate({"metrics": ["f1", "perplexity", "accuracy"]}), Path())
    for name, metric in build_metrics(config, Path()).items():
        assert isinstance(metric, AdditiveMetric)
        other = plain[name]
        assert isinstance(other, AdditiveMetric)
        expected = other.numbers(other.row(SCORES[kept], LABELS[kept]))
        assert metric.numbers(metric.row(SCORES, LABELS)) == pytest.approx(expected, rel=1e-13)


def test_every_built_in_metric_is_tested() -> None:
    others = {"top_k", "rmse", "r2", "mae", "perplexity", "auroc", "accuracy", "confusion_matrix"}
    assert METRICS.keys() == {use for use, _, _ in CLASSES.values()} | others

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.training.config.objective_config import LossConfig
from lockstep.training.config.run_config import RunConfig
from lockstep.training.losses.loss_contract import sum_loss, sum_metric
from lockstep.training.losses.losses import (
    LOSSES,
    LossDeclaration,
    build_loss,
    cross_entropy,
    mse,
    needs_classes,
)
from lockstep.training.metrics.additive_metric import AdditiveMetric
from lockstep.training.metrics.class_metrics import count_correct
from lockstep.training.metrics.metrics import Metric, build_metrics
from lockstep.training.metrics.score_metrics import sum_absolute_errors

SCORES = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
TARGETS = torch.tensor([0, 2])


def test_cross_entropy_is_one_loss_per_sample_and_its_mean_is_torchs() -> None:
    losses = cross_entropy(SCORES, TARGETS)
    assert losses.shape == (2,)
    assert losses.mean() == pytest.approx(float(functional.cross_entropy(SCORES, TARGETS)))


def test_arguments_of_the_config_reach_the_loss() -> None:
    loss = build_loss(LossConfig(use="cross_entropy", args={"label_smoothing": 0.5}), Path())
    expected = functional.cross_entropy(SCORES, TARGETS, reduction="none", label_smoothing=0.5)
    assert torch.equal(loss(SCORES, TARGETS), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("ignored", [None, 1])
def test_weights_of_classes_divide_the_mean_as_torchs_do(smoothing: float, ignored: int | None) -> None:
    scores = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 2, 1, 0, 2])
    weights = [0.5, 1.0, 3.0]
    args = {"label_smoothing": smoothing, "class_weights": weights, "ignore_index": ignored}
    loss = build_loss(LossConfig(use="cross_entropy", args=args), Path())
    parts = [
        sum_loss(loss(scores[rows], target[rows]), rows.stop - rows.start)
        for rows in (slice(0, 3), slice(3, 7))
    ]
    mean = sum(summed for summed, _ in parts) / sum(
        float(weight) for _, weight in parts if weight is not None
    )
    expected = functional.cross_entropy(
        scores, target, torch.tensor(weights, dtype=torch.float64), label_smoothing=smoothing,
        ignore_index=-100 if ignored is None else ignored,
    )  # fmt: skip
    assert float(mean) == pytest.approx(float(expected), rel=1e-14)


@pytest.mark.parametrize("weights", [[1.0, 2.0], "balanced", [1.0, -1.0, 2.0], ["a", "b", "c"]])
def test_weights_that_are_none_of_these_classes_are_refused(weights: Any) -> None:
    with pytest.raises(TrainingError, match=r"class_weights: .* is not a list of 3 weights"):
        cross_entropy(SCORES, TARGETS, class_weights=weights)


def test_mse_averages_the_components_of_a_sample_and_takes_no_other_shape() -> None:
    output, target = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 4.0], [0.0, 4.0]])
    assert mse(output, target).tolist() == [2.0, 4.5]
    with pytest.raises(TrainingError, match=r"\(2, 2\).*\(2,\)"):
        mse(output, torch.zeros(2))


def test_metrics_are_a_sum_and_a_count() -> None:
    hits, samples = count_correct(SCORES, TARGETS)
    assert (int(hits), samples) == (1, 2)
    error, samples = sum_absolute_errors(torch.tensor([[1.0], [5.0]]), torch.tensor([[2.0], [2.0]]))
    assert (float(error), samples) == (4.0, 2)


def test_a_per_sample_loss_is_summed_and_weighs_its_samples() -> None:
    summed, weight = sum_loss(torch.tensor([1.0, 2.0, 4.0]), 3)
    assert (float(summed), weight) == (7.0, None)


def test_a_pair_is_a_sum_with_its_own_weight_that_takes_no_gradient() -> None:
    mass = torch.tensor(5.0, requires_grad=True)
    summed, weight = sum_loss((torch.tensor(3.0), mass), 2)
    assert weight is not None
    assert (float(summed), float(weight), weight.requires_grad) == (3.0, 5.0, False)
    assert float(sum_loss((torch.tensor(3.0), 2), 2)[1]) == 2.0


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (torch.tensor(1.0), "a single number"),
        (torch.ones(3), r"shape \(3,\)"),
        (torch.ones(2, 1), r"shape \(2, 1\)"),
        (1.5, "float"),
        (None, "NoneType"),
        ((torch.ones(2), 2), r"a tuple \(a tensor of shape \(2,\), int\)"),
        ((torch.tensor(1.0),) * 3, "a tuple"),
    ],
)
def test_whatever_could_be_averaged_wrongly_is_refused(returned: object, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        sum_loss(returned, 2)


def test_one_sample_has_one_loss_not_a_mean() -> None:
    """A batch of one must not let a loss pass that a batch of two would refuse."""
    with pytest.raises(TrainingError, match="a single number"):
        sum_loss(torch.tensor(1.0), 1)


def test_counts_are_taken_in_float64() -> None:
    summed, counted = sum_metric((torch.tensor(16_777_217, dtype=torch.int64), 2**25 + 1), "accuracy")
    assert (summed.dtype, counted.dtype) == (torch.float64, torch.float64)
    assert (int(summed), int(counted)) == (16_777_217, 2**25 + 1)


def test_a_count_is_made_where_the_sum_is() -> None:
    """A copy from the processor would make each batch of an evaluation wait for the device."""
    _, counted = sum_metric((torch.ones((), device="meta"), 3), "accuracy")
    assert counted.device.type == "meta"


@pytest.mark.parametrize("returned", [torch.tensor(0.5), 0.5, (torch.ones(2), 2), (1, 2, 3)])
def test_a_metric_that_is_no_pair_of_numbers_is_refused_by_name(returned: object) -> None:
    with pytest.raises(TrainingError, match="metric f1"):
        sum_metric(returned, "f1")


def _functions(metrics: dict[str, Metric]) -> dict[str, Any]:
    return {name: metric.collect for name, metric in metrics.items() if isinstance(metric, AdditiveMetric)}


def test_metrics_follow_the_loss_unless_they_are_named() -> None:
    assert list(build_metrics(RunConfig(), Path())) == ["accuracy"]
    regression = RunConfig.model_validate({"loss": {"use": "mse"}})
    assert build_metrics(regression, Path()) == {}
    named = RunConfig.model_validate({"metrics": ["mae"]})
    assert _functions(build_metrics(named, Path())) == {"mae": sum_absolute_errors}


def test_a_new_loss_is_one_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = LossDeclaration(mse, default_metrics=("mae",), needs_classes=True)
    monkeypatch.setitem(LOSSES, "squared", declared)
    config = RunConfig.model_validate({"loss": {"use": "squared"}})
    assert build_loss(config.loss, Path()) is mse
    assert _functions(build_metrics(config, Path())) == {"mae": sum_absolute_errors}
    assert needs_classes(config.loss)
    assert not needs_classes(LossConfig(use="./mine.py:loss"))
    with pytest.raises(UsageError) as caught:
        build_loss(LossConfig(use="other"), Path())
    assert "built in are cross_entropy, mse, squared" in caught.value.hint


def test_an_unknown_name_is_guessed() -> None:
    with pytest.raises(UsageError, match="did you mean cross_entropy"):
        build_loss(LossConfig(use="cross_entropie"), Path())
    with pytest.raises(UsageError, match="did you mean accuracy"):
        build_metrics(RunConfig.model_validate({"metrics": ["acuracy"]}), Path())


def test_a_users_own_function_is_found_by_file_and_named_by_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def top(output, target): return 1, 2\ndef loss(output, target): return 3\n"
    )
    metrics = build_metrics(RunConfig.model_validate({"metrics": ["./mine.py:top"]}), tmp_path)
    assert {name: function(None, None) for name, function in _functions(metrics).items()} == {"top": (1, 2)}
    assert build_loss(LossConfig(use="./mine.py:loss"), tmp_path)(None, None) == 3


@pytest.mark.parametrize(
    ("output", "target", "words"),
    [
        (SCORES, TARGETS[:, None], "class indices for scores of"),
        (SCORES, functional.one_hot(TARGETS, SCORES.shape[1]), "class indices for scores of"),
        (SCORES, TARGETS.double(), "the targets are float64 of shape [2], which are no class indices"),
        (SCORES[:, 0], TARGETS, "the model returned the shape (2,), not scores of (samples, classes)"),
        (torch.zeros(2, 5, 3), torch.zeros(2, 5, dtype=torch.int32), "have the shape [2, 3]"),
    ],
)
@pytest.mark.parametrize(
    "use", ["cross_entropy", "torch.nn:CrossEntropyLoss", "torch.nn.functional:nll_loss"]
)
def test_targets_that_are_no_classes_are_named(
    output: torch.Tensor, target: torch.Tensor, words: str, use: str
) -> None:
    with pytest.raises(TrainingError) as caught:
        build_loss(LossConfig(use=use), Path())(output, target)
    assert words in caught.value.message

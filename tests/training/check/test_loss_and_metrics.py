"""Losses and metrics, whose value for a batch must be that of its parts."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lockstep.training.check.loss_checks import Cut, check_loss, check_metrics, split, split_outputs
from lockstep.training.metrics.additive_metric import AdditiveMetric

SIZES = [1, 2, 9]
cross_entropy = nn.functional.cross_entropy


@pytest.fixture
def cut() -> Cut:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(3, (12,), generator=generator)
    output = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    return Cut(split_outputs(output, target, SIZES), target, split(target, SIZES), SIZES)


def _sum_weight(output: torch.Tensor, target: torch.Tensor) -> Any:
    losses = cross_entropy(output, target, reduction="none")
    weights = 1.0 + target
    return (losses * weights).sum(), weights.sum()


def _contrastive(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output @ output.T).logsumexp(1)


LOSSES: dict[str, tuple[Callable[..., Any], str | None]] = {
    "per sample": (lambda o, t: cross_entropy(o, t, reduction="none"), None),
    "(sum, weight)": (_sum_weight, None),
    "(sum, number)": (lambda o, t: (cross_entropy(o, t, reduction="sum"), len(t)), None),
    "a scalar": (cross_entropy, "a single number"),
    "(mean, 1)": (lambda o, t: (cross_entropy(o, t), 1), "one mean, whatever the samples"),
    "(mean, samples)": (lambda o, t: (cross_entropy(o, t), len(t)), "a mean is not a sum"),
    "(sum, 1)": (lambda o, t: (cross_entropy(o, t, reduction="sum"), 1), "one mean, whatever the samples"),
    "a mean for each": (lambda o, t: cross_entropy(o, t).expand(len(t)), "as of a mean"),
    "a random one": (
        lambda o, t: cross_entropy(o, t, reduction="none") * random.random(),
        "another value for the same output and target on a second call",
    ),
    "in-batch negatives": (_contrastive, "it looks at the other samples"),
    "not a number": (lambda o, t: o[:, 0] * float("nan"), "of sample 0 is nan"),
    "an error for one sample": (lambda o, t: o.squeeze()[:, 0] * 1.0, "IndexError"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_held_to_its_parts(cut: Cut, name: str) -> None:
    loss, words = LOSSES[name]
    found = check_loss(loss, cut)
    assert found.verdict == ("PASS" if words is None else "FAIL"), found
    if words is not None:
        assert words in found.what
        assert found.where.startswith(f"{__file__}:") or loss is cross_entropy
        assert found.advice


def test_a_mean_is_seen_though_the_model_says_the_same_of_every_sample() -> None:
    target = torch.arange(12) % 3
    cut = Cut(split_outputs(torch.zeros(12, 3), target, SIZES), target, split(target, SIZES), SIZES)
    assert check_loss(lambda o, t: cross_entropy(o, t).expand(len(t)), cut).verdict == "FAIL"
    assert check_loss(lambda o, t: cross_entropy(o, t, reduction="none"), cut).verdict == "PASS"


METRICS: dict[str, tuple[Callable[..., Any], str | None]] = {
    "(hits, samples)": (lambda o, t: ((o.argmax(1) == t).sum(), len(t)), None),
    "(hits, positives)": (lambda o, t: (((o.argmax(1) == t) * t).sum(), t.sum()), None),
    "(mean, 1)": (lambda o, t: ((o.argmax(1) == t).float().mean(), 1), "the count 1 for 12 samples"),
    "(mean, samples)": (lambda o, t: ((o.argmax(1) == t).float().mean(), len(t)), "a mean is not a sum"),
    "a number": (lambda o, t: (o.argmax(1) == t).float().mean(), "a single number"),
}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_held_to_its_parts(cut: Cut, name: str) -> None:
    metric, words = METRICS[name]
    (found,) = check_metrics({"mine": AdditiveMetric("mine", metric)}, cut)
    assert found.check == "metric mine"
    assert found.verdict == ("PASS" if words is None else "FAIL"), found
    assert words is None or words in found.what


def test_a_mean_of_hits_is_seen_though_the_model_hits_nothing() -> None:
    target = torch.zeros(12, dtype=torch.int64)
    output = torch.tensor([[0.0, 1.0]]).repeat(12, 1)
    cut = Cut(split_outputs(output, target, SIZES), target, split(target, SIZES), SIZES)
    mean = AdditiveMetric("mine", METRICS["(mean, samples)"][0])
    (found,) = check_metrics({"mine": mean}, cut)
    assert found.verdict == "FAIL"

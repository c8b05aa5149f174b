"""What ``launch check`` looks with: losses and metrics cut, modules listened to, samples read, steps compared."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lockstep.data.sources.splits import MapSplit
from lockstep.training.check.data_checks import Labels, check_labels, check_length, different_part, read
from lockstep.training.check.loss_checks import Cut, check_loss, check_metrics, cut_outputs, split
from lockstep.training.check.model_checks import check_mixing, check_randomness, check_unused
from lockstep.training.check.tensor_recorder import Recorder, first_difference
from lockstep.training.check.trial_steps import worst
from lockstep.training.session.step_seeding import StepRandomness

SIZES = [1, 2, 9]
cross_entropy = nn.functional.cross_entropy


@pytest.fixture
def cut() -> Cut:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(3, (12,), generator=generator)
    output = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    return Cut(cut_outputs(output, target, SIZES), target, split(target, SIZES))


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
    "(mean, samples)": (lambda o, t: (cross_entropy(o, t), len(t)), "a mean is no sum"),
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
    cut = Cut(cut_outputs(torch.zeros(12, 3), target, SIZES), target, split(target, SIZES))
    assert check_loss(lambda o, t: cross_entropy(o, t).expand(len(t)), cut).verdict == "FAIL"
    assert check_loss(lambda o, t: cross_entropy(o, t, reduction="none"), cut).verdict == "PASS"


METRICS: dict[str, tuple[Callable[..., Any], str | None]] = {
    "(hits, samples)": (lambda o, t: ((o.argmax(1) == t).sum(), len(t)), None),
    "(hits, positives)": (lambda o, t: (((o.argmax(1) == t) * t).sum(), t.sum()), None),
    "(mean, 1)": (lambda o, t: ((o.argmax(1) == t).float().mean(), 1), "the count 1 for 12 samples"),
    "(mean, samples)": (lambda o, t: ((o.argmax(1) == t).float().mean(), len(t)), "a mean is no sum"),
    "a number": (lambda o, t: (o.argmax(1) == t).float().mean(), "a single number"),
}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_held_to_its_parts(cut: Cut, name: str) -> None:
    metric, words = METRICS[name]
    (found,) = check_metrics({"mine": metric}, cut)
    assert found.check == "metric mine"
    assert found.verdict == ("PASS" if words is None else "FAIL"), found
    assert words is None or words in found.what


def test_a_mean_of_hits_is_seen_though_the_model_hits_nothing() -> None:
    target = torch.zeros(12, dtype=torch.int64)
    output = torch.tensor([[0.0, 1.0]]).repeat(12, 1)
    cut = Cut(cut_outputs(output, target, SIZES), target, split(target, SIZES))
    (found,) = check_metrics({"mine": METRICS["(mean, samples)"][0]}, cut)
    assert found.verdict == "FAIL"


class Centred(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0)


class Inline(nn.Module):
    """Mixes between its modules: neither of them is to blame."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.second(x / x.std(0))


@pytest.mark.parametrize(
    ("model", "who"),
    [
        (nn.Sequential(nn.Linear(4, 4), Centred(), nn.Linear(4, 2)), "Centred (1)"),
        (nn.Sequential(nn.Linear(4, 4), Inline()), "Inline (1)"),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)), "BatchNorm1d (1)"),
        (nn.Linear(4, 2), None),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), None),
    ],
)
def test_mixing_samples_in_evaluation_is_seen_and_named(model: nn.Module, who: str | None) -> None:
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    model.train()
    found = check_mixing(model, x, split(x, [2, 3, 7]))
    assert (found.verdict == "FAIL") == (who is not None)
    assert who is None or found.what.endswith(who)
    assert all(module.training for module in model.modules())


class Squeezing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(1, keepdim=True).squeeze()


class Wide(Squeezing):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, None].squeeze()


@pytest.mark.parametrize("model", [Squeezing(), Wide()])
def test_an_output_that_loses_the_batch_of_one_is_seen(model: nn.Module) -> None:
    found = check_mixing(model, torch.ones(12, 4), [torch.ones(size, 4) for size in SIZES])
    assert found.verdict == "FAIL"
    assert "its output for 1 of 12 samples has not 1 rows" in found.what
    assert "squeeze" in found.advice


class FromPython(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if random.random() < 2 else x * 0


class FromNumPy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + np.random.rand() * 0  # noqa: NPY002 - the planted mistake


class FromTheSystem(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * random.SystemRandom().random()


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class FromTorch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rand(x.shape[1]) if self.training else x


def _random_model(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), layer), nn.Linear(4, 2))


RANDOM: dict[str, tuple[nn.Module, str, str, str]] = {
    "Python's, used to no effect": (
        FromPython(),
        "FAIL",
        "FromPython (1.1) draws from Python's random",
        "all",
    ),
    "NumPy's": (FromNumPy(), "FAIL", "FromNumPy (1.1) draws from NumPy's generator", "all"),
    "the system's": (FromTheSystem(), "FAIL", "FromTheSystem (1.1) gives another output", "all"),
    "a counter": (Counting(), "FAIL", "Counting (1.1) gives another output", "all"),
    "torch's": (FromTorch(), "NOTE", "draws random numbers outside of dropout", "all"),
    "dropout": (nn.Dropout(0.5), "PASS", "", "modules"),
    "none": (nn.Tanh(), "PASS", "", "modules"),
}


@pytest.mark.parametrize("name", RANDOM)
def test_what_no_step_seeds_is_seen_and_named(name: str) -> None:
    layer, verdict, words, still = RANDOM[name]
    draws = StepRandomness(0, 0, torch.device("cpu"))
    found, stilled = check_randomness(_random_model(layer), torch.ones(2, 4), draws)
    assert (found.verdict, stilled) == (verdict, still)
    assert words in found.what
    assert verdict != "FAIL" or found.where.startswith(f"{__file__}:")


def test_a_draw_between_modules_is_their_parents() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x) * random.SystemRandom().random())

    found, _ = check_randomness(Net(), torch.ones(2, 4), StepRandomness(0, 0, torch.device("cpu")))
    assert "Net (the whole model) gives another output" in found.what


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


class Rows(torch.utils.data.Dataset[Any]):
    def __init__(self, kind: str, length: int = 20) -> None:
        self.kind, self.length = kind, length
        self.state = np.random.default_rng(0)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, row: int) -> Any:
        if row >= 20:
            raise IndexError(row)
        draw = {
            "torch": lambda: float(torch.rand(())),
            "python": random.random,
            "numpy": np.random.rand,
            "stateful": self.state.random,
            "entropy": lambda: np.random.default_rng().random(),
        }[self.kind]()
        return {"image": torch.full((3,), draw), "mask": torch.ones(2)}, row


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("torch", None),
        ("python", None),
        ("numpy", None),
        ("stateful", "input['image']"),
        ("entropy", "input['image']"),
    ],
)
def test_the_part_of_a_sample_that_is_not_reproducible_is_named(kind: str, part: str | None) -> None:
    split = MapSplit(Rows(kind), None)
    one, other = read(split, [3], 0, workers=0), read(split, [3], 0, workers=0)
    assert different_part(one[0], other[0]) == part


def test_a_split_that_ends_before_its_length_says() -> None:
    assert check_length({"train": MapSplit(Rows("torch"), None)}).verdict == "PASS"
    found = check_length({"train": MapSplit(Rows("torch"), None), "val": MapSplit(Rows("torch", 23), None)})
    assert (found.verdict, found.blocks) == ("FAIL", True)
    assert found.what.startswith(
        "val says that it has 23 samples, but sample 22 of the data set raised IndexError"
    )


def test_labels_are_held_against_the_models_outputs() -> None:
    labels = [Labels("train", torch.tensor([0, 1, 1, 3]), whole=True)]
    assert check_labels(labels, 3).verdict == "FAIL"
    missing = check_labels(labels, 4)
    assert missing.verdict == "NOTE"
    assert "no training sample has the label 2" in missing.what
    assert check_labels(labels, None).verdict == "PASS"
    assert (
        check_labels([Labels("train", torch.tensor([0.5, float("nan")]), whole=True)], None).verdict == "FAIL"
    )
    assert check_labels([], 3).verdict == "NOTE"


def test_unused_parameters_are_named() -> None:
    assert check_unused([]).verdict == "PASS"
    many = check_unused([f"layer{number}.weight" for number in range(10)])
    assert many.verdict == "NOTE"
    assert many.what.endswith("layer7.weight and 2 more")


def test_the_worst_parameter_is_relative_to_its_size_and_rounding_is_no_parameter() -> None:
    one = {
        "large": torch.tensor([100.0, 1.0]),
        "small": torch.tensor([1.0]),
        "rounding": torch.tensor([1e-17]),
    }
    assert worst(one, one) == {"name": "", "difference": 0.0, "relative": 0.0}
    other = {"large": one["large"] + 0.01, "small": one["small"] + 0.001, "rounding": one["rounding"] * -1}
    found = worst(one, other)
    assert found["name"] == "small"
    assert found["relative"] == pytest.approx(1e-3, rel=1e-3)
    assert worst(one, {"large": one["large"], "small": one["small"]})["name"] == "rounding"
    for name in one:
        assert worst(one, {**other, name: one[name] * float("nan")})["name"] == name

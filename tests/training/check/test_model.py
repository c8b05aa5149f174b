"""A user's model: mixed samples, draws that no step seeds, lost batches, unused parameters."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from lockstep.training.check.loss_checks import split
from lockstep.training.check.model_checks import check_randomness, check_sample_independence, check_unused
from lockstep.training.session.step_seeding import StepSeeder

SIZES = [1, 2, 9]  # of the parts into which the samples are cut


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
    found = check_sample_independence(model, x, split(x, [2, 3, 7]), [2, 3, 7])
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
    found = check_sample_independence(
        model, torch.ones(12, 4), [torch.ones(size, 4) for size in SIZES], SIZES
    )
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
    draws = StepSeeder(0, 0, torch.device("cpu"))
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

    found, _ = check_randomness(Net(), torch.ones(2, 4), StepSeeder(0, 0, torch.device("cpu")))
    assert "Net (the whole model) gives another output" in found.what


def test_unused_parameters_are_named() -> None:
    assert check_unused([], []).verdict == "PASS"
    rare = check_unused(["rare.weight"], [])
    assert rare.verdict == "PASS"
    assert "the loss of the first samples leaves out rare.weight" in rare.what
    names = [f"layer{number}.weight" for number in range(10)]
    many = check_unused(names, names)
    assert many.verdict == "NOTE"
    assert many.what.endswith("layer7.weight and 2 more")

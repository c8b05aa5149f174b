"""The rates of every schedule, against those of torch's own schedulers, and what a schedule does not depend on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import lr_scheduler as torchs

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.training.config.duration import RunLength
from lockstep.training.config.optimizers import OptimizerConfig
from lockstep.training.config.schedules import SCHEDULES, ScheduleConfig
from lockstep.training.optim.optimizer_building import build_optimizer
from lockstep.training.optim.optimizer_schedule import build_schedule
from lockstep.training.optim.schedules import _SHAPES, build_rate, table_steps, tabulate

PEAK, EPOCH, STEPS = 0.3, 6, 60
LENGTH = RunLength(EPOCH, STEPS)
Scheduler = Callable[[torch.optim.Optimizer], Any]


def _config(**values: Any) -> ScheduleConfig:
    return ScheduleConfig.model_validate(values)


def _ours(config: ScheduleConfig, length: RunLength = LENGTH, peak: float = PEAK) -> list[float]:
    rate = build_rate(config, length, Path())
    return [rate(step, peak) for step in range(length.steps)]


def _torchs(make: Scheduler, every: int = 1) -> list[float]:
    """The rates of a loop that steps torch's scheduler after each ``every`` steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler, rates = make(optimizer), []
    for step in range(1, STEPS + 1):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if step % every == 0 and step < STEPS:  # OneCycleLR refuses to go on after its last
            scheduler.step()
    return rates


def _after_warmup(steps: int, low: float, make: Scheduler) -> Scheduler:
    return lambda optimizer: torchs.SequentialLR(
        optimizer, [torchs.LinearLR(optimizer, low, 1.0, steps), make(optimizer)], [steps]
    )


CASES: dict[str, tuple[dict[str, Any], Scheduler, int]] = {
    "constant": ({}, lambda o: torchs.ConstantLR(o, 1.0), 1),
    "linear": ({"use": "linear"}, lambda o: torchs.LinearLR(o, 1.0, 0.0, STEPS), 1),
    "linear to a rate": (
        {"use": "linear", "min_lr": 0.03},
        lambda o: torchs.LinearLR(o, 1.0, 0.1, STEPS),
        1,
    ),
    "cosine": ({"use": "cosine"}, lambda o: torchs.CosineAnnealingLR(o, STEPS), 1),
    "cosine to a rate": (
        {"use": "cosine", "min_lr": 0.01},
        lambda o: torchs.CosineAnnealingLR(o, STEPS, eta_min=0.01),
        1,
    ),
    "polynomial": ({"use": "polynomial"}, lambda o: torchs.PolynomialLR(o, STEPS), 1),
    "polynomial of a power": (
        {"use": "polynomial", "power": 2.5},
        lambda o: torchs.PolynomialLR(o, STEPS, power=2.5),
        1,
    ),
    "step": ({"use": "step", "every": 7}, lambda o: torchs.StepLR(o, 7), 1),
    "step, stepped after each epoch": (
        {"use": "step", "every": "1 epochs", "factor": 0.7},
        lambda o: torchs.StepLR(o, 1, gamma=0.7),
        EPOCH,
    ),
    "step, of epochs": (
        {"use": "step", "every": "2 epochs", "factor": 0.7},
        lambda o: torchs.StepLR(o, 2, gamma=0.7),
        EPOCH,
    ),
    "multi-step": (
        {"use": "multi_step", "at": [40, "1 epoch", "50 %"]},
        lambda o: torchs.MultiStepLR(o, [6, 30, 40]),
        1,
    ),
    "multi-step, twice in one place": (
        {"use": "multi_step", "at": [10, 10], "factor": 0.5},
        lambda o: torchs.MultiStepLR(o, [10, 10], gamma=0.5),
        1,
    ),
    "exponential": ({"use": "exponential", "factor": 0.95}, lambda o: torchs.ExponentialLR(o, 0.95), 1),
    "exponential, stepped after each epoch": (
        {"use": "exponential", "factor": 0.9, "every": "1 epoch"},
        lambda o: torchs.ExponentialLR(o, 0.9),
        EPOCH,
    ),
    "inverse square root": (
        {"use": "inverse_sqrt", "timescale": 9},
        lambda o: torchs.LambdaLR(o, lambda step: ((step + 9) / 9) ** -0.5),
        1,
    ),
    "one cycle": (
        {"use": "one_cycle"},
        lambda o: torchs.OneCycleLR(o, PEAK, total_steps=STEPS, cycle_momentum=False),
        1,
    ),
    "one cycle, its own way": (
        {"use": "one_cycle", "rise": "41.3 %", "anneal": "linear", "div_factor": 7, "final_div_factor": 30},
        lambda o: torchs.OneCycleLR(
            o,
            PEAK,
            total_steps=STEPS,
            pct_start=0.413,
            anneal_strategy="linear",
            div_factor=7,
            final_div_factor=30,
            cycle_momentum=False,
        ),
        1,
    ),
    "one cycle, of three phases": (
        {"use": "one_cycle", "three_phase": True, "rise": 20},
        lambda o: torchs.OneCycleLR(
            o, PEAK, total_steps=STEPS, pct_start=20 / STEPS, three_phase=True, cycle_momentum=False
        ),
        1,
    ),
    "warm-up": (
        {"warmup": "15 %", "warmup_factor": 0.1},
        _after_warmup(9, 0.1, lambda o: torchs.ConstantLR(o, 1.0)),
        1,
    ),
    "warm-up and cosine": (
        {"use": "cosine", "warmup": "2 epochs", "warmup_factor": 1e-3, "min_lr": 0.02},
        _after_warmup(12, 1e-3, lambda o: torchs.CosineAnnealingLR(o, STEPS - 12, eta_min=0.02)),
        1,
    ),
    "warm-up and linear, as transformers does it": (
        {"use": "linear", "warmup": 10},
        lambda o: torchs.LambdaLR(o, lambda step: step / 10 if step < 10 else (STEPS - step) / (STEPS - 10)),
        1,
    ),
    "warm-up and inverse square root, as transformers does it": (
        {"use": "inverse_sqrt", "warmup": 10},
        lambda o: torchs.LambdaLR(o, lambda step: step / 10 if step < 10 else (step / 10) ** -0.5),
        1,
    ),
    "warm-up and step": (
        {"use": "step", "every": 7, "factor": 0.7, "warmup": 5, "warmup_factor": 0.2},
        _after_warmup(5, 0.2, lambda o: torchs.StepLR(o, 7, gamma=0.7)),
        1,
    ),
    "warm-up and exponential": (
        {"use": "exponential", "factor": 0.9, "warmup": 5, "warmup_factor": 0.2},
        _after_warmup(5, 0.2, lambda o: torchs.ExponentialLR(o, 0.9)),
        1,
    ),
    "warm-up in front of places in the run": (
        {"use": "multi_step", "at": [20, 40], "warmup": 5},
        lambda o: torchs.LambdaLR(o, lambda step: min(1, step / 5) * 0.1 ** ((step >= 20) + (step >= 40))),
        1,
    ),
}


# What torch warns of: SequentialLR steps its schedulers before the optimizer.
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*optimizer.step.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*epoch parameter in.*:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_the_rates_are_torchs(name: str) -> None:
    settings, make, every = CASES[name]
    assert _ours(_config(**settings)) == pytest.approx(_torchs(make, every), rel=1e-12, abs=1e-16)


def test_every_schedule_has_a_case() -> None:
    assert {settings.get("use", "constant") for settings, *_ in CASES.values()} | {"plateau"} == {*SCHEDULES}
    assert _SHAPES.keys() == SCHEDULES.keys()


def test_the_cosine_of_earlier_versions_keeps_its_bits() -> None:
    def before(step: int, low: float) -> float:
        return low + (PEAK - low) * 0.5 * (1.0 + math.cos(math.pi * step / STEPS))

    for low in (0.0, 0.01, 0.07):
        rates = _ours(_config(use="cosine", min_lr=low))
        assert rates == [before(step, low) for step in range(STEPS)]
    assert _ours(_config()) == [PEAK] * STEPS


def test_a_floor_holds_and_never_lifts_a_rate_above_its_peak() -> None:
    falling = [
        name for name, schedule in SCHEDULES.items() if "min_lr" in schedule.keys and name != "plateau"
    ]
    more = {"step": {"every": 5}, "multi_step": {"at": [5]}, "exponential": {"factor": 0.5}}
    for name in falling:
        rates = _ours(_config(use=name, min_lr=0.1, **more.get(name, {})))
        assert min(rates) >= 0.1, name
        assert _ours(_config(use=name, min_lr=5.0, **more.get(name, {}))) == [PEAK] * STEPS, name


def test_a_cycle_of_few_steps_has_rates() -> None:
    for steps in range(1, 6):
        for rise in (1, 2, "100 %"):
            rates = _ours(_config(use="one_cycle", rise=rise), RunLength(1, steps))
            assert all(0 < rate <= PEAK for rate in rates), (steps, rise)


def test_a_schedule_sets_each_group_from_its_own_peak_whatever_step_came_before() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    groups = [{"match": "bias$", "lr": 0.5}]
    optimizer = build_optimizer(OptimizerConfig.model_validate({"lr": 1.0, "groups": groups}), model)
    schedule = build_schedule(_config(use="cosine", warmup=2), optimizer, RunLength(5, 10), Path())
    for step in (7, 6, 0, 6):
        schedule.set(step)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.25])


def test_a_constant_schedule_leaves_the_groups_alone() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.7)
    schedule = build_schedule(_config(), optimizer, LENGTH, Path())
    optimizer.param_groups[0]["lr"] = 0.2
    schedule.set(9)
    assert optimizer.param_groups[0]["lr"] == 0.2
    assert schedule.state() is None


OWN = """
import math
def half(step, total): return 1 - step / total / 2
def power(step, total, exponent=1.0): return (1 - step / total) ** exponent
def lost(step, total): return math.nan
def below(step, total): return -0.1
def fails(step, total): return 1 / (step - 3)
def text(step, total): return "much"
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def test_a_function_of_ones_own_gives_the_multiple_of_each_groups_rate(base: Path) -> None:
    rates = dict(tabulate(_config(use="./own.py:half"), LENGTH, base, 0.4, [0, 15, 59]))
    assert rates == pytest.approx({0: 0.4, 15: 0.4 * (1 - 1 / 8), 59: 0.4 * (1 - 59 / 120)})
    config = _config(use="./own.py:power", args={"exponent": 3.0}, warmup=10)
    rates = dict(tabulate(config, LENGTH, base, 1.0, [5, 10, 35]))
    assert rates == pytest.approx({5: 0.5, 10: 1.0, 35: 0.125})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lost", "own.py:lost(step=4, total=60) returned nan"),
        ("below", "own.py:below(step=4, total=60) returned -0.1"),
        ("fails", ""),
        ("text", "own.py:text(step=4, total=60) failed"),
    ],
)
def test_what_is_no_multiple_is_refused(base: Path, name: str, message: str) -> None:
    rate = build_rate(_config(use=f"./own.py:{name}"), LENGTH, base)
    if message:
        with pytest.raises(TrainingError, match=re.escape(message)):
            rate(4, 1.0)
    else:
        assert rate(4, 1.0) == 1.0
        with pytest.raises(
            TrainingError, match=r"\(step=3, total=60\) failed \(.*own.py:7.*ZeroDivisionError"
        ):
            rate(3, 1.0)


def test_a_function_that_is_not_there_is_refused(base: Path) -> None:
    with pytest.raises(UsageError, match="has no 'halb', did you mean 'half'"):
        build_rate(_config(use="./own.py:halb"), LENGTH, base)


@pytest.mark.parametrize(
    ("values", "place", "message"),
    [
        ({"use": "cosin"}, ("use",), "'constant', 'linear', 'cosine'"),
        ({"use": "constant", "min_lr": 0.1}, ("min_lr",), "constant has no min_lr"),
        ({"use": "cosine", "every": 3}, ("every",), "cosine has no every"),
        ({"use": "cosine", "patience": 0}, ("patience",), "cosine has no patience"),
        ({"use": "./own.py:half", "factor": 0.5}, ("factor",), "./own.py:half has no factor"),
        ({"use": "cosine", "args": {}}, ("args",), "cosine has no args"),
        ({"use": "step"}, ("every",), "required"),
        ({"use": "multi_step"}, ("at",), "required"),
        ({"use": "exponential"}, ("factor",), "required"),
        ({"use": "multi_step", "at": []}, ("at",), "at least 1"),
        ({"use": "plateau", "factor": 1.5}, ("factor",), "must be less than 1"),
        ({"warmup_factor": 0.1}, ("warmup_factor",), "there is no warmup"),
        ({"warmup": "10 minutes"}, ("warmup",), "must be 500 steps"),
        ({"warmup": 5, "warmup_factor": 1.0}, ("warmup_factor",), "less than 1"),
    ],
)
def test_what_a_schedule_does_not_have_is_refused_by_name(
    values: dict[str, Any], place: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        _config(**values)
    [found] = caught.value.errors()
    assert found["loc"] == place
    assert message in found["msg"]


def test_whether_a_schedule_follows_the_length_of_the_run() -> None:
    longer = RunLength(EPOCH, 2 * STEPS)
    more: dict[str, dict[str, Any]] = {
        "step": {"every": 5},
        "multi_step": {"at": [5]},
        "exponential": {"factor": 0.5},
    }
    for name in SCHEDULES:
        config = _config(use=name, warmup=5, **more.get(name, {}))
        assert config.follows_length == (_ours(config) != _ours(config, longer)[:STEPS]), name
    for share in (
        {"use": "step", "every": "5 %"},
        {"warmup": "5 %"},
        {"use": "multi_step", "at": [5, "9 %"]},
    ):
        assert _config(**share).follows_length, share


def test_a_table_has_the_steps_that_tell_a_schedule() -> None:
    assert table_steps(_config(), LENGTH) == [0, 15, 30, 45, 59]
    assert table_steps(_config(warmup=10), LENGTH) == [0, 10, 15, 30, 45, 59]
    assert table_steps(_config(warmup=100), LENGTH) == [0, 15, 30, 45, 59]
    assert table_steps(_config(), RunLength(1, 1)) == [0]

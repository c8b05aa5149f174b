"""What ``launch check`` makes of the ranks' numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.data.order.sample_order import EpochBatches
from lockstep.launcher.check.verdicts import (
    CHECKPOINT,
    KILLED_AFTER,
    STEPS,
    ComparisonConditions,
    batch_size,
    judge_evaluation,
    judge_resume,
    judge_steps,
    shorten_config,
    without_validation,
)
from lockstep.training.check.finding import Finding, finding_from_json
from lockstep.training.config.run_config import RunConfig

EXACT = ComparisonConditions(3, "fp64", "", "")
NOTHING = {"name": "", "difference": 0.0, "relative": 0.0}


def _parameter(relative: float) -> dict[str, Any]:
    return {"name": "body.weight", "difference": relative / 2, "relative": relative}


@pytest.mark.parametrize(
    ("gradient", "weight", "precision", "verdict"),
    [
        (1e-14, 1e-13, "fp64", "PASS"),
        (1e-8, 1e-13, "fp64", "FAIL"),
        (1e-14, 1e-8, "fp64", "FAIL"),
        (1e-5, 1.0, "auto", "PASS"),
        (1e-2, 0.0, "auto", "FAIL"),
        (1e-2, 0.0, "bf16", "PASS"),
        (math.nan, 0.0, "bf16", "FAIL"),
        (math.inf, 0.0, "fp64", "FAIL"),
    ],
)
def test_processes_are_held_against_one_as_tightly_as_the_numbers_allow(
    gradient: float, weight: float, precision: str, verdict: str
) -> None:
    found = judge_steps(_parameter(gradient), _parameter(weight), replace(EXACT, precision=precision))
    assert (found.check, found.verdict) == ("3 against 1", verdict)
    assert "body.weight" in found.what


def test_what_was_switched_off_is_said() -> None:
    found = judge_steps(NOTHING, NOTHING, replace(EXACT, stilled="without dropout"))
    assert found.what == "gradients and weights of 6 steps agree in fp64, without dropout: equal to the bit"


def test_evaluations_are_held_against_each_other() -> None:
    one = {"val/loss": 0.5, "val/recall": math.nan, "val/count": 7}
    assert judge_evaluation(one, {**one}, 7, EXACT).verdict == "PASS"
    wrong = judge_evaluation(one, {**one, "val/loss": 0.5001}, 7, EXACT)
    assert wrong.verdict == "FAIL"
    assert "val/loss is 0.5 with 1 process and 0.5001 with 3" in wrong.what
    rounded = judge_evaluation(one, {**one, "val/loss": 0.5 + 3e-8}, 7, EXACT)
    assert (rounded.verdict, "no more apart than float32 rounds" in rounded.what) == ("NOTE", True)


@pytest.mark.parametrize("kind", ["sample", "weights", "enter", "leave", "gradient"])
def test_the_first_difference_is_told_with_its_step(kind: str) -> None:
    found = judge_resume({"step": 3, "kind": kind, "who": "Net (body)", "where": "exp.py:3"}, EXACT)
    assert (found.verdict, found.where) == ("FAIL", "exp.py:3")
    assert "step 4" in found.what
    assert kind == "weights" or "Net (body)" in found.what
    assert judge_resume(None, replace(EXACT, cause="correct that")).verdict == "FAIL"


@pytest.mark.parametrize("n", [1, 2, 5, 20, 103, 1009])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("limit", [None, 3])
def test_steps_are_small_and_shared_unequally(n: int, processes: int, limit: int | None) -> None:
    size = batch_size(n, 64, limit, processes)
    assert 1 <= size <= min(64, n)
    if n >= 20 and processes > 1 and limit is None:
        batches = EpochBatches(n, size)
        spans = [batches.shard(at, r, processes) for at in (0, batches.steps - 1) for r in range(processes)]
        assert 1 not in [stop - start for start, stop in spans]
    assert batch_size(n, 4, limit, processes) <= 4


def _facts(kind: Any, subset: str | None) -> DatasetInfo:
    val = SplitInfo(4, {}, subset=subset)
    train = SplitInfo(20, {}, subset=subset)
    return DatasetInfo("d", kind, train, val, None, None, None, None, None, None, None)


def test_a_run_becomes_six_steps_with_one_checkpoint_before_the_kill() -> None:
    config = shorten_config(RunConfig(), _facts("user", None), 2)
    assert config.train.max_steps == STEPS
    assert config.train.epochs * EpochBatches(20, config.data.batch_size).steps >= STEPS
    assert (config.checkpoint.every_steps, config.checkpoint.every_epochs) == (CHECKPOINT, None)
    assert CHECKPOINT < KILLED_AFTER < STEPS


def test_a_validation_split_off_a_users_own_set_stays() -> None:
    assert without_validation(_facts("user", "rows.npy")).val is not None
    assert without_validation(_facts("user", None)).val is None
    assert without_validation(_facts("arrays", "rows.npy")).val is None


def test_a_finding_survives_its_journey() -> None:
    finding = Finding("loss", "FAIL", "what", "exp.py:3", "do", [{"a": 1}], blocks=True)
    assert finding_from_json(finding.to_json()) == finding

"""``loss.use: auto``: a loss and its metrics by what the data say that targets are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.data.config.data_look import DataLook, PartLook, SplitLook, ValueKind
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.launcher.config.resolution import resolve, to_yaml
from tests.helpers.dataset_infos import PICTURES


def _of(type_: str) -> DatasetInfo:
    target = PartLook("target", (ValueKind(type_, ((1, 1),), 5),), 0, 9, 0)
    look = DataLook(SplitLook(5, 5, 0, (target,)), None)
    return replace(PICTURES, name="csv", classes=None, look=look)


NUMBERS = _of("float32")


@pytest.mark.parametrize(
    ("facts", "loss", "metrics", "why"),
    [
        (PICTURES, "cross_entropy", ["accuracy"], "the target is a class"),
        (NUMBERS, "mse", ["mae", "r2"], "the target is a number"),
    ],
)
def test_both_fit_the_target_are_said_and_kept_with_their_origin(
    tmp_path: Path, facts: DatasetInfo, loss: str, metrics: list[str], why: str
) -> None:
    resolved, said = resolve("csv").with_found(facts)
    config = resolved.config
    assert (config.loss.use, [metric.use for metric in config.metrics or ()]) == (loss, metrics)
    assert said.notes == (f"{why}: loss.use={loss} metrics=[{', '.join(metrics)}]",)
    lines = to_yaml(resolved).splitlines()
    (line,) = [line for line in lines if line.startswith(f"  use: {loss}")]
    assert line.endswith(f"# csv.yaml:15, by the data: {why}"), line
    (line,) = [line for line in lines if line.startswith("metrics:")]
    assert line.endswith(f"# default, by the data: {why}"), line
    (tmp_path / "again.yaml").write_text(to_yaml(resolved))
    again = resolve(str(tmp_path / "again.yaml"))
    assert again.config == config
    assert again.with_found(facts) == (again, facts)  # nothing is left to choose


def test_an_argument_that_no_loss_for_the_data_takes_is_refused_before_they_are_read() -> None:
    with pytest.raises(UsageError, match="auto has no such argument; did you mean label_smoothing"):
        resolve("csv", ["loss.args.label_smothing=0.1"])


def test_what_was_named_stays() -> None:
    own = resolve("csv", ["metrics=[rmse]"]).with_found(NUMBERS)[0].config
    assert [metric.use for metric in own.metrics or ()] == ["rmse"]
    named = resolve("csv", ["loss.use=cross_entropy"])
    assert named.with_found(NUMBERS) == (named, NUMBERS)


@pytest.mark.parametrize(
    ("facts", "settings", "message", "hint"),
    [
        (
            _of("int64"),
            [],
            "targets of csv are int64, which may be classes or",
            "loss.use=cross_entropy is for",
        ),
        (
            replace(NUMBERS, look=None),
            [],
            "of several parts, which may be classes",
            "loss.use=mse for quantities",
        ),
        (
            NUMBERS,
            ["loss.args.label_smoothing=0.1"],
            "loss.args: mse takes no label_smoothing",
            "for the target is a number",
        ),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_way_out(
    facts: DatasetInfo, settings: list[Any], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve("csv", settings).with_found(facts)
    assert message in caught.value.message
    assert hint in caught.value.hint

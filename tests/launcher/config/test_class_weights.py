"""Balanced weights of classes, which the training set's labels decide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.data.config.dataset_info import SplitInfo
from lockstep.launcher.config.resolution import resolve, to_yaml
from tests.helpers.dataset_infos import PICTURES

COUNTED = replace(PICTURES, train=SplitInfo(12, {}, class_counts=(6, 4, 2)))


@pytest.fixture
def config(tmp_path: Path) -> str:
    text = "model: {use: linear}\nloss: {args: {class_weights: balanced, label_smoothing: 0.1}}\n"
    (path := tmp_path / "exp.yaml").write_text(text)
    return str(path)


def test_they_are_written_into_the_config_with_their_origin(config: str, tmp_path: Path) -> None:
    resolved, _ = resolve(config).with_found(COUNTED)
    weights = resolved.config.loss.args["class_weights"]
    assert weights == [12 / (3 * count) for count in (6, 4, 2)]
    assert sum(weight * count for weight, count in zip(weights, (6, 4, 2), strict=True)) == pytest.approx(12)
    assert resolved.config.loss.args["label_smoothing"] == 0.1
    assert "# balanced, by the training set" in to_yaml(resolved)
    (tmp_path / "again.yaml").write_text(to_yaml(resolved))
    again, _ = resolve(str(tmp_path / "again.yaml")).with_found(
        replace(COUNTED, train=SplitInfo(3, {}, class_counts=(1, 1, 1)))
    )
    assert again.config == resolved.config


def test_classes_that_were_not_counted_or_have_no_sample_are_refused(config: str) -> None:
    with pytest.raises(UsageError, match="the samples of each class of pictures were not counted"):
        resolve(config).with_found(PICTURES)
    empty = replace(COUNTED, train=SplitInfo(4, {}, class_counts=(2, 0, 2)), class_names=("a", "b", "c"))
    with pytest.raises(UsageError, match="class 'b' has no training sample"):
        resolve(config).with_found(empty)


def test_a_loss_of_ones_own_gets_what_the_config_says(config: str) -> None:
    own = resolve(config, ["loss.use=./own.py:loss"])
    assert own.with_found(COUNTED)[0] is own

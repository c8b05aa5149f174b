"""Weights, balanced classes and epochs of another length: of a config, or of what a function returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.data.common.errors import LockstepError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.order.sample_order import FullOrder
from lockstep.data.order.sampling import WeightedOrder, cumulate
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_order, open_split
from tests.helpers.dataset_files import write_images

DIGITS = {"train": 101, "val": 20}


def counts_of(facts: DatasetInfo, config: DataConfig, project: Path, epochs: int = 1) -> np.ndarray:
    """How often each training sample comes in so many epochs."""
    order = open_order(facts, config, project)
    drawn = [order.indices(np.arange(order.n), 5, epoch) for epoch in range(epochs)]
    return np.bincount(np.concatenate(drawn), minlength=facts.train.length)


@pytest.mark.parametrize("val_size", [None, 30])
def test_balanced_classes_have_as_many_samples_each(project: Path, val_size: int | None) -> None:
    config = DataConfig(args=DIGITS, balance="classes", epoch_size=70, val_size=val_size)
    facts = prepare(config, project)
    train = open_split(facts, "train", config, project)
    labels = train.y.numpy() if train.subset is None else train.y.numpy()[train.subset]
    assert facts.sampling is not None
    assert facts.sampling.names == tuple(map(str, range(10)))
    for epochs in (1, 5):
        counts = counts_of(facts, config, project, epochs)
        for label in range(10):
            of_class = counts[labels == label]
            assert of_class.sum() == 7 * epochs
            assert of_class.max() - of_class.min() <= 1


def test_weights_that_a_function_returns_count_without_being_asked(project: Path) -> None:
    weights = [float(1 + row % 5) for row in range(20)]
    config = DataConfig(use="./exp.py:grouped", args={"weights": weights}, group=False)
    facts = prepare(config, project)
    order = open_order(facts, config, project)
    assert isinstance(order, WeightedOrder)
    assert np.array_equal(order.cumulative, cumulate(np.array(weights)))
    assert facts.sampling is not None
    assert facts.sampling.by == "`weights` of ./exp.py:grouped"
    assert facts.sampling.often == pytest.approx((20 / 60, 5 * 20 / 60))
    without = config.model_copy(update={"weights": False})
    assert open_order(prepare(without, project), without, project) == FullOrder(20)
    assert prepare(without, project).fingerprint != facts.fingerprint


def test_weights_are_those_of_the_samples_that_are_left(project: Path) -> None:
    weights = [0.0] * 10 + [1.0] * 10
    config = DataConfig(use="./exp.py:grouped", args={"weights": weights}, group=False, val_size=7)
    facts = prepare(config, project)
    train = open_split(facts, "train", config, project)
    counts = counts_of(facts, config, project)
    assert counts[train.subset < 10].sum() == 0
    assert counts.sum() == 13
    assert facts.sampling is not None
    assert facts.sampling.never == int((train.subset < 10).sum())


def test_the_config_wins_over_the_function(project: Path) -> None:
    weights = [1.0] * 19 + [5.0]
    config = DataConfig(use="./exp.py:grouped", args={"weights": weights}, balance="classes")
    facts = prepare(config, project)
    assert facts.sampling is not None
    assert facts.sampling.by == "data.balance"
    assert any("weights that ./exp.py:grouped returns are not used" in note for note in facts.notes)


def test_an_epoch_of_another_length_passes_through_all_samples(project: Path) -> None:
    for epoch_size, epochs in ((40, 5), (200, 1), (300, 2)):
        config = DataConfig(args={"train": 200, "val": 1}, epoch_size=epoch_size)
        facts = prepare(config, project)
        assert facts.epoch_size == epoch_size
        assert set(counts_of(facts, config, project, epochs).tolist()) == {epoch_size * epochs // 200}
    same = DataConfig(args={"train": 200, "val": 1}, epoch_size=200)
    assert prepare(same, project).sampling is None


def test_a_column_of_a_csv_file_holds_weights(project: Path) -> None:
    config = csv_config(project, weights="w")
    facts = prepare(config, project)
    order = open_order(facts, config, project)
    assert isinstance(order, WeightedOrder)
    assert np.array_equal(order.cumulative, cumulate(np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0])))


def csv_config(project: Path, **more: Any) -> DataConfig:
    names = [f"{row}.png" for row in range(6)]
    write_images(project, names)
    rows = [f"{name},{'ab'[row % 2]}, {row // 2} ,{0.5 + row / 2}" for row, name in enumerate(names)]
    (project / "train.csv").write_text("\n".join(["path,label,patient,w", *rows]))
    return DataConfig.model_validate({"use": "csv_images", "args": {"train_csv": "train.csv"}, **more})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"use": "digits", "args": DIGITS, "weights": "w"}, "data.weights: digits has no column 'w'"),
        ({"use": "./exp.py:one", "weights": "w"}, "is a function, which has no column 'w'"),
        ({"use": "./exp.py:other", "args": {"weights": [1.0, 2.0]}}, r"float64 of shape \[2\] for 11 training"),
        ({"use": "./exp.py:other", "args": {"weights": [1.0] * 10 + [-1.0]}}, "sample 10 has the weight -1.0"),
        ({"use": "./exp.py:other", "args": {"weights": ["1"] * 10 + ["many"]}}, "sample 10 has the weight 'many'"),
        ({"use": "./exp.py:other", "args": {"weights": [0.0] * 11}}, "all are 0"),
        ({"use": "./exp.py:other", "args": {"weights": {"a": 1}}}, "for 'weights', not one value for each"),
        ({"use": "./exp.py:padded", "balance": "classes"}, "the classes of ./exp.py:padded are not known"),
        ({"use": "./exp.py:padded", "balance": "classes", "args": {"targets": [0.5] * 20}}, "not a whole number"),
        ({"use": "digits", "args": DIGITS, "balance": "classes", "epoch_size": 3}, "has no sample in an epoch of 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_sampled_is_refused(project: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(LockstepError, match=words):
        prepare(DataConfig.model_validate(values), project)


def test_a_column_that_is_not_there_is_named(project: Path) -> None:
    with pytest.raises(LockstepError, match=r"data.weights: .*train.csv has no column 'ww'"):
        prepare(csv_config(project, weights="ww"), project)


def test_classes_may_be_returned_beside_samples_that_are_read_one_by_one(project: Path) -> None:
    targets = [0] * 15 + [1] * 5
    config = DataConfig(use="./exp.py:padded", args={"targets": targets}, balance="classes")
    facts = prepare(config, project)
    counts = counts_of(facts, config, project, epochs=3)
    assert (counts[:15].sum(), counts[15:].sum()) == (30, 30)

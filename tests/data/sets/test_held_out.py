"""Validation sets of whole groups and of each class's share, as a config asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.data.common.errors import LockstepError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_split
from tests.data.sets.test_epoch_sampling import csv_config

DIGITS = {"train": 101, "val": 20}


def held_out(config: DataConfig, project: Path) -> tuple[list[int], list[int]]:
    facts = prepare(config, project)
    train, val = (open_split(facts, which, config, project) for which in ("train", "val"))
    assert sorted([*train.subset, *val.subset]) == list(range(len(train) + len(val)))
    return train.subset.tolist(), val.subset.tolist()


@pytest.mark.parametrize("more", [{}, {"stratify": True}])
def test_folds_keep_groups_together_and_cover_all(project: Path, more: dict[str, Any]) -> None:
    seen = []
    for index in range(3):
        values = {"use": "./exp.py:grouped", "fold": {"k": 3, "index": index}, **more}
        train, val = held_out(DataConfig.model_validate(values), project)
        assert not {row // 3 for row in train} & {row // 3 for row in val}
        seen += val
    assert sorted(seen) == list(range(20))


def test_groups_may_be_a_column_or_left_out(project: Path) -> None:
    by_column = csv_config(project, fold={"k": 3, "index": 1}, group="patient")
    assert held_out(by_column, project)[1] in ([0, 1], [2, 3], [4, 5])
    values = {"use": "./exp.py:grouped", "val_size": 7}
    assert len(held_out(DataConfig.model_validate({**values, "group": False}), project)[1]) == 7


def test_whole_groups_make_a_validation_set(project: Path) -> None:
    config = DataConfig(use="./exp.py:grouped", val_size=8)
    train, val = held_out(config, project)
    assert len(val) == 8
    assert not {row // 3 for row in train} & {row // 3 for row in val}
    assert any("whole groups" in note for note in prepare(config, project).notes)


def test_a_validation_set_has_its_share_of_each_class(project: Path) -> None:
    config = DataConfig(args=DIGITS, val_size=30, stratify=True)
    facts = prepare(config, project)
    assert facts.val is not None
    assert facts.val.class_counts is not None
    assert facts.train.class_counts is not None
    total = np.array(facts.train.class_counts) + np.array(facts.val.class_counts)
    assert np.abs(np.array(facts.val.class_counts) - total * 30 / 101).max() < 1


def test_other_groups_are_another_data_set(project: Path) -> None:
    values = {"use": "./exp.py:grouped", "fold": {"k": 3, "index": 0}}
    prints = {
        prepare(DataConfig.model_validate({**values, **more}), project).fingerprint
        for more in ({}, {"args": {"size": 2}}, {"stratify": True}, {"group": False})
    }
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"use": "./exp.py:grouped", "val_size": 1}, "would cut a group in two; whole groups give 0"),
        ({"use": "./exp.py:grouped", "val_size": 10}, "would cut a group in two; whole groups give"),
        ({"use": "./exp.py:grouped", "fold": {"k": 8, "index": 0}}, "8 parts of 7 groups"),
        ({"use": "./exp.py:grouped", "val_size": 6, "stratify": True}, "may not exist"),
        ({"use": "./exp.py:grouped", "args": {"groups": [""] * 20}, "val_size": 6}, "sample 0 and 19 more"),
        (
            {"use": "./exp.py:grouped", "args": {"groups": ["a"] * 3}, "val_size": 6},
            "for 20 training samples",
        ),
        (
            {"use": "./exp.py:grouped", "group": "patient", "val_size": 6},
            "is a function, which has no column",
        ),
        (
            {"use": "digits", "args": DIGITS, "group": "patient", "val_size": 6},
            "digits has no column 'patient'",
        ),
        ({"use": "digits", "args": DIGITS, "group": "patient"}, "data.group: nothing is split off"),
        ({"use": "digits", "args": DIGITS, "stratify": True}, "data.stratify: nothing is split off"),
        ({"use": "./exp.py:padded", "val_size": 3, "stratify": True}, "data.stratify: the classes"),
    ],
)
def test_what_cannot_be_held_out_is_refused(project: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(LockstepError, match=words):
        prepare(DataConfig.model_validate(values), project)

from __future__ import annotations

from dataclasses import replace

import pytest

from lockstep.data.config.data_look import DataLook, PartLook, SplitLook, ValueKind
from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.launcher.train.data_lines import data_lines
from lockstep.launcher.train.target_notes import loss_notes
from lockstep.training.config.objective_config import LossConfig

LABELS = ((0, 60), (1, 40))


def facts(
    type_: str,
    shape: tuple[tuple[int, int], ...] = (),
    labels: tuple[tuple[int, int], ...] = (),
    counts: tuple[int, ...] | None = None,
) -> DatasetInfo:
    high = labels[-1][0] if labels else 1
    low = labels[0][0] if labels else 0
    target = PartLook("target", (ValueKind(type_, shape, 100),), low, high, 0, labels)
    look = DataLook(SplitLook(100, 900, 0, (target,)), None)
    train = SplitInfo(900, {}, class_counts=counts)
    return DatasetInfo("own", "user", train, None, None, None, None, None, None, None, None, look=look)


@pytest.mark.parametrize(
    ("loss", "data", "words"),
    [
        (
            "cross_entropy",
            facts("float32"),
            "targets are float32 numbers, and cross_entropy compares with class",
        ),
        ("torch.nn:CrossEntropyLoss", facts("float"), "targets are float numbers, and CrossEntropyLoss"),
        ("mse", facts("int64"), "targets are int64, and mse is for quantities"),
        ("torch.nn.functional:l1_loss", facts("int"), "targets are int, and l1_loss is for quantities"),
        (
            "cross_entropy",
            facts("int", labels=((2019, 60), (2021, 40))),
            "2 different labels were seen",
        ),
        ("cross_entropy", facts("float32", ((10, 10),)), None),
        ("cross_entropy", facts("int64", labels=LABELS), None),
        ("mse", facts("float32", ((1, 1),)), None),
        ("./exp.py:loss", facts("float32"), None),
        (
            "./exp.py:loss",
            facts("int", labels=((-100, 9), (1, 91))),
            "some targets are -100, which torch's cross_",
        ),
        ("./exp.py:loss", facts("int", labels=((-99, 9), (1, 91))), None),
        ("./exp.py:loss", facts("float32", labels=((-100, 9), (1, 91))), None),
        ("torch.nn:CrossEntropyLoss", facts("int", labels=((-100, 9), (1, 91))), None),
        ("cross_entropy", facts("str"), None),
    ],
)
def test_targets_that_another_loss_is_for_are_noted(loss: str, data: DatasetInfo, words: str | None) -> None:
    notes = loss_notes(LossConfig(use=loss), data)
    assert len(notes) == (words is not None)
    assert words is None or words in notes[0]


def test_labels_of_a_sample_are_counted_where_the_set_does_not_tell_them() -> None:
    assert data_lines(facts("int", labels=LABELS))[1:] == ["2 labels in 100 samples: 0 in 60, 1 in 40"]
    assert data_lines(facts("int", labels=LABELS, counts=(500, 400)))[1:] == ["2 classes: 0 (500), 1 (400)"]
    assert data_lines(facts("int", labels=LABELS, counts=(450, 450)))[1:] == [
        "2 classes of 450 samples: 0, 1"
    ]
    many = tuple((label, 1) for label in range(90))
    assert data_lines(facts("int", labels=many))[1:] == []


def test_names_of_any_length_and_kind_stay_on_a_short_line() -> None:
    data = replace(facts("int", counts=(3, 4)), class_names=("a" * 10**6, "b\x1b[31m"), notes=("n" * 10**6,))
    _, classes, note = data_lines(data)
    assert len(classes) < 200
    assert "b\\u001b[31m (4)" in classes
    assert len(note) < 500

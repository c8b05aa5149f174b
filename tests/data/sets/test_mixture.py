"""Several data sets as one: whose samples they are, what each is evaluated on, and what cannot be one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lockstep.data.common.errors import LockstepError, TrainingError, UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.config.sections import PadConfig
from lockstep.data.loading.feed import Work
from lockstep.data.loading.feed_choice import open_feed
from lockstep.data.loading.normalise import Normalisation
from lockstep.data.order.sampling import MixedOrder
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_order, open_split, sample_reader
from lockstep.data.sources.splits import ArraySplit, MapSplit

SMALL = {"train": 30, "val": 8}


def mix(more: dict[str, Any] | None = None, **sets: Any) -> DataConfig:
    described = {name: one if isinstance(one, dict) else {"use": one} for name, one in sets.items()}
    return DataConfig.model_validate({"sets": described, "workers": 0, **(more or {})})


def weighted(first: float, second: float, **more: Any) -> DataConfig:
    one, other = ({"use": f"./exp.py:{name}", "weight": w} for name, w in (("one", first), ("other", second)))
    return mix(more, one=one, other=other)


def test_sets_that_are_held_whole_become_one_that_all_ranks_share(project: Path) -> None:
    config = mix(one="./exp.py:one", other="./exp.py:other")
    facts = prepare(config, project)
    assert DatasetInfo.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    train = open_split(facts, "train", config, project)
    assert isinstance(train, ArraySplit)
    assert set(facts.train.files) == {"x", "y"}
    parts = [
        open_split(one, "train", DataConfig(use=f"./exp.py:{name}"), project)
        for name, one in facts.parts.items()
    ]
    assert torch.equal(train.x, torch.cat([part.x for part in parts]))
    assert torch.equal(train.y, torch.cat([part.y for part in parts]))
    assert (facts.train.length, facts.sampling, facts.val) == (51, None, None)
    assert facts.train.class_counts == tuple(np.bincount(train.y).tolist())


def test_each_set_is_evaluated_by_its_own_name(project: Path) -> None:
    config = mix(one="./exp.py:one", drawn={"use": "digits", "args": SMALL})
    with pytest.raises(UsageError, match=r"divided by 255"):
        prepare(
            mix({"samples": "any"}, drawn={"use": "digits", "args": SMALL}, own="./exp.py:bytes_"),
            make(project),
        )
    facts = prepare(config, project)
    assert {name: info.length for name, info in facts.others.items()} == {"val_one": 6, "val_drawn": 8}
    assert facts.validation == ("val_drawn", "val_one")
    drawn = open_split(facts, "val_drawn", config, project)
    assert isinstance(drawn, ArraySplit)
    assert drawn.x.shape == (8, 1, 28, 28)
    length, read = sample_reader(facts, "val_one", config, project)
    assert (length, int(read(3)[1])) == (6, 1)


def make(project: Path) -> Path:
    """A function whose samples are bytes that are not scaled."""
    with (project / "exp.py").open("a") as file:
        file.write(
            "\n\ndef bytes_():\n    x = torch.zeros(9, 1, 28, 28, dtype=torch.uint8)\n"
            "    return {'train': (x, torch.arange(9))}\n"
        )
    return project


def test_what_is_read_one_by_one_is_joined_with_what_is_held_whole(project: Path) -> None:
    config = mix(
        {"pad": {"to": "longest"}}, first="./exp.py:texts", second={"use": "./exp.py:texts", "args": {"n": 7}}
    )
    facts = prepare(config, project)
    train = open_split(facts, "train", config, project)
    assert isinstance(train, MapSplit)
    assert len(train) == 27
    assert [train.dataset[row][1] for row in (0, 19, 20, 26)] == [0, 19, 0, 6]
    feed = open_feed(
        train, Normalisation(torch.float64, None, None), torch.device("cpu"), workers=0, classes=None, seed=0
    )
    [batch] = feed.fetch(iter([Work(np.array([19, 20]), [2])]))
    x, y = batch.micro[0]
    assert x.tolist() == [[19.0] * 4, [0.0, 0.0, 0.0, 0.0]]
    assert y.tolist() == [19, 0]


def test_a_sample_that_cannot_be_read_is_named_by_its_set(project: Path) -> None:
    config = mix(
        few={"use": "./exp.py:texts", "args": {"n": 5}}, many={"use": "./exp.py:texts", "args": {"n": 120}}
    )
    config = config.model_copy(update={"pad": PadConfig()})
    with pytest.raises(TrainingError, match="sample 99 of the data set raised ValueError: row 99 of Texts"):
        open_split(prepare(config, project), "train", config, project).dataset[104]


@pytest.mark.parametrize(
    ("weights", "shares"), [((3, 1), (38, 13)), ((0.5, 0.5), (26, 25)), ((1, 0), (40, 0))]
)
def test_weights_are_shares_of_an_epoch(
    project: Path, weights: tuple[float, float], shares: tuple[int, int]
) -> None:
    config = weighted(*weights)
    facts = prepare(config, project)
    assert facts.sampling is not None
    assert facts.sampling.shares == shares
    assert facts.epoch_size == sum(shares)
    order = open_order(facts, config, project)
    assert order == MixedOrder((40, 11), shares)
    drawn = order.indices(np.arange(order.n), 0, 3)
    assert ((drawn < 40).sum(), (drawn >= 40).sum()) == shares


def test_what_is_held_out_is_of_all_sets_and_shares_are_of_the_rest(project: Path) -> None:
    config = weighted(1, 1, val_size=20)
    facts = prepare(config, project)
    train = open_split(facts, "train", config, project)
    assert facts.val is not None
    assert (facts.train.length, facts.val.length, facts.epoch_size) == (31, 20, 31)
    assert facts.sampling is not None
    of_one = int((train.subset < 40).sum())
    assert facts.sampling.sizes == (of_one, 31 - of_one)
    drawn = train.subset[open_order(facts, config, project).indices(np.arange(31), 0, 0)]
    assert ((drawn < 40).sum(), (drawn >= 40).sum()) == facts.sampling.shares == (16, 15)


def test_another_weight_or_length_is_another_data_set(project: Path) -> None:
    configs = [
        weighted(1, 1),
        weighted(2, 1),
        weighted(1, 1, epoch_size=50),
        mix(one="./exp.py:one", other="./exp.py:other"),
    ]
    assert len({prepare(config, project).fingerprint for config in configs}) == 4
    assert prepare(weighted(2, 2), project).fingerprint == prepare(weighted(1, 1), project).fingerprint


def test_sets_in_concatenation_come_once_each(project: Path) -> None:
    config = mix({"epoch_size": 17}, one="./exp.py:one", other="./exp.py:other")
    facts = prepare(config, project)
    order = open_order(facts, config, project)
    seen = np.concatenate([order.indices(np.arange(17), 4, epoch) for epoch in range(3)])
    assert sorted(seen.tolist()) == list(range(51))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sets": {"a": {"use": "digits", "weight": 1}, "b": {"use": "mnist"}}}, "b has no weight"),
        ({"sets": {"a": {"use": "digits", "weight": 0}}}, "nothing to train on"),
        ({"sets": {"a": {"use": "digits", "weight": -1}}}, "greater than or equal to 0"),
        ({"sets": {"a-b": {"use": "digits"}}}, "'a-b' is no name"),
        ({"sets": {"a": {"use": "digits"}}, "use": "mnist"}, "leave one of them out"),
        ({"sets": {"a": {"use": "digits"}}, "args": {"train": 3}}, "the arguments of a set are its own"),
        ({"sets": {}}, "at least 1 item"),
        ({"use": "mix"}, "needs the sets"),
        ({"sets": {"a": {"use": "digits", "weight": 1}}, "balance": "classes"}, "each say how often"),
        ({"weights": "w", "balance": "classes"}, "each say how often"),
        ({"weights": True}, "weights"),
        ({"epoch_size": 0}, "epoch_size"),
    ],
)
def test_a_wrong_section_says_what_is_wrong(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataConfig.model_validate(values)


def test_what_cannot_be_one_set_is_refused(project: Path) -> None:
    digits = {"use": "digits", "args": SMALL}
    for config, words in (
        (
            mix(a=digits, b={"use": "digits", "args": {**SMALL, "mean": 0.5, "std": 0.5}}),
            "a and b have another mean",
        ),
        (mix(a="mix"), "data.sets.a: a set of several sets"),
        (mix(a=digits, a_b=digits, a_b_c={"use": "nothing"}), "no data set 'nothing'"),
        (weighted(1, 10**-6), "other has no sample in an epoch of 51"),
        (mix({"pad": {"to": 3}}, a=digits), "data.pad"),
        (mix(a="./exp.py:padded", b="./exp.py:collated"), "a and b do not agree on pad"),
        (mix(a=digits, b="./exp.py:missing"), "missing"),
    ):
        with pytest.raises(LockstepError, match=words):
            prepare(config, project)

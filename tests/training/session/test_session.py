"""What a rank opens from a config."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lockstep.data.common.errors import TrainingError
from lockstep.data.loading.feed import Feed, Work
from lockstep.data.prepare import prepare
from lockstep.training.config.run_config import RunConfig, RunSpec
from lockstep.training.rank.process_group import Group, join
from lockstep.training.session.build import build_session, build_training
from lockstep.training.session.session import Session

PICTURES = """
import torch

def data():
    x = torch.arange(1, 1 + 40 * 25, dtype=torch.float64).view(40, 1, 5, 5)
    return {"train": (x, torch.arange(40) % 2), "val": (x, torch.arange(40) % 2)}
"""


ONE_BY_ONE = """
class Rows(torch.utils.data.Dataset):
    def __len__(self): return 40
    def __getitem__(self, row): return torch.full((3,), float(row)), row % 2

def rows(): return {"train": Rows(), "val": Rows()}
"""


def _opened(folder: Path, *, training: bool = True, model: Any = None, **data: Any) -> Session:
    config = RunConfig.model_validate(
        {
            "data": {"use": "./own.py:data", **data},
            "train": {"precision": "fp64"},
            "model": model or {"use": "linear"},
        }
    )
    facts = prepare(config.data, folder)
    return build_session(
        RunSpec("run", config, folder, facts, "cpu", "id"), join(gpu=False), training=training
    )


def _first(feed: Feed | None) -> Any:
    assert feed is not None
    work = Work(np.arange(40), [40], epoch=1)
    return next(feed.fetch(iter([work]))).micro[0][0]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(PICTURES)
    return tmp_path


def test_training_images_are_augmented_and_those_of_an_evaluation_are_not(own: Path) -> None:
    plain, augmented = _opened(own), _opened(own, augment={"crop": 1, "flip": True})
    assert not torch.equal(_first(augmented.train_feed), _first(plain.train_feed))
    assert torch.equal(_first(augmented.val_feeds["val"]), _first(plain.val_feeds["val"]))


BYTES = """
import torch
ids = torch.arange(80, dtype=torch.uint8).view(40, 2)
class Rows(torch.utils.data.Dataset):
    def __len__(self): return 40
    def __getitem__(self, row): return {"ids": ids[row], "mask": ids[row] > 3}, row % 2
def held(): return {"train": (ids, torch.arange(40) % 2)}
def rows(): return {"train": Rows()}
"""


@pytest.mark.parametrize("name", ["held", "rows"])
def test_bytes_of_a_users_own_are_numbers_unless_they_are_to_be_scaled(tmp_path: Path, name: str) -> None:
    model = {"use": "./own.py:model"}
    (tmp_path / "own.py").write_text(BYTES + "def model(): return torch.nn.Embedding(80, 2)\n")
    expected = torch.arange(80).view(40, 2)
    for scaled in (False, True):
        session = _opened(tmp_path, use=f"./own.py:{name}", scale_uint8=scaled, workers=0, model=model)
        x = _first(session.train_feed)
        ids = x["ids"] if isinstance(x, dict) else x
        assert ids.dtype == (torch.float64 if scaled else torch.uint8)
        assert torch.equal(ids, expected.double() / 255 if scaled else expected.byte())
        assert not isinstance(x, dict) or x["mask"].dtype == torch.bool


@pytest.mark.parametrize(("training", "workers"), [(True, 4), (False, 2)])
def test_workers_are_there_before_the_first_step_and_an_evaluation_has_none_too_many(
    own: Path, *, training: bool, workers: int
) -> None:
    (own / "own.py").write_text(PICTURES + ONE_BY_ONE)
    before = set(multiprocessing.active_children())
    session = _opened(own, training=training, use="./own.py:rows", workers=2)
    born = set(multiprocessing.active_children()) - before
    assert len(born) == workers
    assert torch.equal(_first(session.val_feeds["val"])[:, 0], torch.arange(40, dtype=torch.float64))
    assert set(multiprocessing.active_children()) - before == born


LIKE_A_DICT = """
import torch
class Rows(torch.utils.data.Dataset):
    def __len__(self): return 40
    def __getitem__(self, row): return {"ids": torch.ones(3)}, {"label": row % 2}
def rows(): return {"train": Rows()}
def model(): return torch.nn.Linear(3, 2)
"""


def test_a_model_that_does_not_take_the_samples_is_told_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(LIKE_A_DICT)
    session = _opened(tmp_path, use="./own.py:rows", workers=0, model={"use": "./own.py:model"})
    words = "the first batch is a dict with the keys ids with targets a dict with the keys label"
    with pytest.raises(TrainingError, match=words) as caught:
        build_training(session)
    assert caught.value.message.startswith("model and data do not fit: TypeError")


@pytest.mark.parametrize("fixed", [True, False])
def test_chosen_samples_are_the_same_for_any_number_of_processes(own: Path, *, fixed: bool) -> None:
    session = _opened(own, batch_size=3)
    chosen = session.chosen_samples("val", 4)
    assert chosen is not None
    assert (chosen.size, np.unique(chosen).size) == (12, 12)
    assert chosen.max() > 20  # not the first ones: a set may be sorted
    assert np.array_equal(chosen, _opened(own, batch_size=3).chosen_samples("val", 4))
    for world in (1, 2, 3, 5):
        read: list[int] = []
        for rank in range(world):
            session.group = Group(rank, rank, world, torch.device("cpu"))
            for work in (session.fixed_val_work if fixed else session.val_work)("val", chosen):
                assert list(work.indices) == list(chosen[work.start : work.start + work.indices.size])
                read += work.indices.tolist()
        assert read == chosen.tolist(), world


def test_a_set_that_is_small_enough_is_evaluated_whole(own: Path) -> None:
    session = _opened(own, batch_size=3)
    assert session.chosen_samples("val", None) is None
    assert session.chosen_samples("val", 14) is None

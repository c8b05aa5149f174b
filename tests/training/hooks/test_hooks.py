from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.training.checkpoint.state import Progress
from lockstep.training.config.config_identity import identity_settings
from lockstep.training.config.run_config import RunConfig
from lockstep.training.hooks.hook_log import HookLog
from lockstep.training.hooks.hooks import Hooks, load_hooks
from lockstep.training.hooks.pictures import as_picture
from lockstep.training.hooks.saved_values import gather_saved, own_saved
from lockstep.training.loop.run_hooks import build_hooks
from lockstep.training.rank.process_group import Group
from lockstep.training.tracking.event_log import EventLog
from tests.helpers.sessions import ALONE, open_session
from tests.helpers.threaded_ranks import threaded_groups
from tests.helpers.user_project import USER_CODE, USER_CONFIG

CODE = """
import random
import numpy as np

def raising(state):
    return 1 / 0

def training(state):
    state.model.eval()

def writing(state):
    next(state.model.parameters()).mul_(2)

def counting(state):
    state.model(torch.ones(2, 7, dtype=torch.float64))

def reading(state):
    with state.evaluating():
        assert not state.model.training
        state.model(torch.ones(2, 7, dtype=torch.float64))
    assert state.model.training
    draw(state)

def draw(state):
    state.log("drawn", random.random() + float(np.random.rand()) + float(torch.rand(())))

def normed(width=7):
    return nn.Sequential(nn.Linear(width, 11), nn.BatchNorm1d(11), nn.Linear(11, 2))
"""


_OPEN: list[EventLog] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _OPEN:
        _OPEN.pop().close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(USER_CODE + CODE)
    (tmp_path / "own.yaml").write_text(USER_CONFIG)
    return tmp_path / "own.yaml"


def _hooks(project: Path, *, rank: int = 0, **points: str) -> tuple[Hooks, Path]:
    named = ", ".join(f"{point}: ./own.py:{name}" for point, name in points.items())
    session = open_session(project, [f"hooks={{{named}}}", "model.use=./own.py:normed"])
    session.model.train()
    record = project.parent / "metrics.jsonl"
    record.unlink(missing_ok=True)
    _OPEN.append(EventLog(record))
    hooks = build_hooks(session, _OPEN[-1], project.parent, Progress(step=3))
    hooks._group = Group(rank, rank, 1, torch.device("cpu"))
    return hooks, record


def _call(hooks: Hooks, step: int = 3) -> None:
    hooks._progress.step = step
    hooks.call("on_step")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raising", r"hooks.on_step = ./own.py:raising raised \(.*own.py:\d+\): ZeroDivisionError"),
        ("training", "changed the model"),
        ("writing", "changed the model"),
        ("counting", "changed the model"),
    ],
)
def test_what_raises_or_changes_the_model_is_blamed(project: Path, name: str, words: str) -> None:
    hooks, _ = _hooks(project, on_step=name)
    with pytest.raises(TrainingError, match=words):
        _call(hooks)


def test_draws_are_keyed_by_step_and_rank_and_leave_no_trace(project: Path) -> None:
    def draw() -> tuple[float, ...]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002 - what training may use

    drawn = {}
    for rank, step in ((0, 3), (0, 3), (0, 4), (1, 3)):
        hooks, record = _hooks(project, rank=rank, on_step="reading")
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(7)
        _call(hooks, step)
        after = draw()
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(7)
        assert after == draw()
        hooks.at("on_end")
        value = json.loads(record.read_text())["rank0/drawn"]
        assert drawn.setdefault((rank, step), value) == value
    assert len(set(drawn.values())) == 3


def test_hooks_are_found_by_file_or_by_name(project: Path) -> None:
    (project.parent / "all.py").write_text("def on_step(state): ...\ndef on_end(state): ...\non_start = 3\n")
    whole = load_hooks(RunConfig.model_validate({"hooks": "./all.py"}).hooks, project.parent)
    assert list(whole) == ["on_step", "on_end"]
    one = RunConfig.model_validate({"hooks": {"on_start": "./all.py:on_end"}})
    assert list(load_hooks(one.hooks, project.parent)) == ["on_start"]
    assert one.model_dump(mode="json")["hooks"] == {"on_start": "./all.py:on_end"}
    assert identity_settings(one) == identity_settings(RunConfig())
    with pytest.raises(UsageError, match="it has none of the functions on_start, on_step"):
        load_hooks(RunConfig.model_validate({"hooks": "./own.py"}).hooks, project.parent)
    assert not load_hooks(None, project.parent)


def _log(tmp_path: Path, group: Group = ALONE) -> HookLog:
    return HookLog(group, EventLog(None), tmp_path, ["val/loss"])


@pytest.mark.parametrize("name", ["step", "lr", "val/loss", "train/loss", "", "a b", 3])
def test_names_of_the_run_itself_are_refused(tmp_path: Path, name: Any) -> None:
    with pytest.raises(TrainingError, match="is taken by the run itself, or is no name"):
        _log(tmp_path).log(name, 1)


@pytest.mark.parametrize("value", [None, [1, 2], (1, 2, 3), (1, "x"), torch.zeros(5, 2, 2, 2), {"a": 1}])
def test_what_cannot_be_logged_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TrainingError, match=r"state.log\('x'\): \w+ can not be logged"):
        _log(tmp_path).log("x", value)


def test_pairs_add_up_over_ranks_and_calls_and_plain_numbers_are_rank_0s(tmp_path: Path) -> None:
    found: dict[int, Any] = {}

    def rank(group: Group) -> None:
        log = _log(tmp_path, group)
        log.at = (5, 1)
        log.log("pair", (torch.tensor([2.0, 3.0])[group.rank], 1))
        log.log("pair", (0.5, 2))
        log.log("last", 1)
        last = 10 + group.rank
        log.log("last", last)
        if group.rank == 1:
            log.log("only", (3, 4))
        log.at = (6, 1)
        log.log("late", (1, 1))
        found[group.rank] = log.collect(5), log.collect(9)

    threads = [threading.Thread(target=rank, args=(group,)) for group in threaded_groups()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    (row,), (late,) = found[0]
    assert row["values"] == {"pair": 6.0 / 6, "rank0/last": 10.0, "only": 0.75}
    assert (late["step"], late["values"]) == (6, {"late": 1.0})


def test_a_tensor_is_logged_as_it_was(tmp_path: Path) -> None:
    log, value = _log(tmp_path), torch.ones(())
    log.log("x", value)
    value += 1
    assert log.collect(0)[0]["values"] == {"rank0/x": 1.0}


def test_arrays_are_pictures_in_either_order() -> None:
    from matplotlib.figure import Figure

    shapes = {(4, 6): "L", (3, 4, 6): "RGB", (4, 6, 3): "RGB", (1, 4, 6): "L", (4, 6, 4): "RGBA"}
    for shape, mode in shapes.items():
        picture = as_picture(torch.full(shape, 0.5))
        assert (picture.size, picture.mode) == ((6, 4), mode)
        assert picture.getpixel((0, 0)) in (128, (128,) * 3, (128,) * 4)
    assert as_picture(np.full((2, 2), 7, np.uint8)).getpixel((1, 1)) == 7
    assert as_picture(Figure(figsize=(1, 1), dpi=50)).size == (50, 50)
    assert as_picture(np.zeros(3)) is None


def test_what_hooks_return_comes_back_as_it_was() -> None:
    value = {
        "n": 1,
        "f": 0.1,
        "t": [torch.arange(3), None, {"d": torch.tensor(2.5, dtype=torch.float64)}],
        "s": "x",
    }
    state, tensors = gather_saved({"./own.py": value}, ALONE)
    found, notes = own_saved(json.loads(json.dumps(state)), tensors, ALONE)
    assert notes == []
    again, same = gather_saved(found, ALONE)
    assert again == state
    assert all(torch.equal(same[name], tensor) for name, tensor in tensors.items())
    assert found["./own.py"]["t"][0].dtype == torch.int64
    more, notes = own_saved(state, tensors, Group(1, 1, 2, torch.device("cpu")))
    assert (more["./own.py"]["n"], notes) == (1, [])
    two = {"ranks": [{"./own.py": 1}, {"./own.py": 2}]}
    assert own_saved(two, {}, ALONE)[0] == {"./own.py": 1}
    assert "all have rank 0's" in own_saved(two, {}, ALONE)[1][0]
    assert own_saved(two, {}, Group(1, 1, 2, torch.device("cpu")))[0] == {"./own.py": 2}
    for bad in ({"s": {1}}, (1, 2), {1: 2}, nn.Linear(1, 1)):
        with pytest.raises(TrainingError, match="returned holds"):
            gather_saved({"./own.py": bad}, ALONE)

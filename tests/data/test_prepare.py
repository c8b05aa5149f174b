from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lockstep.data.common.errors import MachineError, UsageError, error_from_json
from lockstep.data.config.data_config import DataConfig, FoldConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.order.sample_order import permute
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_split
from lockstep.data.sources.splits import ArraySplit
from tests.helpers.dataset_files import files_below, write_mnist

SMALL = {"train": 101, "val": 20}


def config(val_size: int | None = None, **args) -> DataConfig:
    return DataConfig(args=SMALL | args, val_size=val_size)


def test_own_validation_split(tmp_path: Path) -> None:
    facts = prepare(config(), tmp_path)
    assert DatasetInfo.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    train, val = (open_split(facts, which, config(), tmp_path) for which in ("train", "val"))
    assert isinstance(train, ArraySplit)
    assert (train.x.shape, train.y.shape, train.subset) == ((101, 1, 28, 28), (101,), None)
    assert (train.x.dtype, train.y.dtype, len(val)) == (torch.uint8, torch.int64, 20)


def test_val_size_takes_the_first_of_a_fixed_permutation(tmp_path: Path) -> None:
    facts = prepare(config(val_size=30), tmp_path)
    train, val = (open_split(facts, which, config(val_size=30), tmp_path) for which in ("train", "val"))
    expected = permute(np.arange(101), 101, (0x73706C6974, 0))[:30]
    assert val.subset.tolist() == sorted(expected.tolist())
    assert sorted([*train.subset, *val.subset]) == list(range(101))
    assert train.subset.dtype == np.int64
    assert train.x.data_ptr() != 0
    for split, part in ((train, facts.train), (val, facts.val)):
        counts = np.bincount(split.y.numpy()[split.subset], minlength=10)
        assert part.class_counts == tuple(counts.tolist())
        assert part.length == len(split) == len(split.subset)


def test_zero_is_no_validation(tmp_path: Path) -> None:
    facts = prepare(config(val_size=0), tmp_path)
    assert facts.val is None
    assert facts.train.length == 101
    with pytest.raises(ValueError, match="no split 'val'"):
        open_split(facts, "val", config(val_size=0), tmp_path)


def test_splits_differ_in_their_fingerprints(tmp_path: Path) -> None:
    prints = [prepare(config(val_size=size), tmp_path).fingerprint for size in (None, 10, 11)]
    assert len(set(prints)) == 3


@pytest.mark.parametrize("size", [101, 102])
def test_nothing_left_to_train_on(tmp_path: Path, size: int) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(config(val_size=size), tmp_path)
    assert f"data.val_size: {size} of 101 training samples leaves none" in caught.value.message
    assert "less than 101" in caught.value.hint


def test_tensors_as_the_linear_model_wants_them(tmp_path: Path) -> None:
    settings = DataConfig(use="tensors", args={"rows": 23}, val_size=3)
    facts = prepare(settings, tmp_path)
    split = open_split(facts, "train", settings, tmp_path)
    assert (split.x.shape, split.y.shape, len(split)) == ((23, 5), (23, 1), 20)
    assert (split.x.dtype, split.y.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize(("use", "meant"), [("mnst", "mnist"), ("Digits", "digits"), ("cifar", "cifar10")])
def test_unknown_names(tmp_path: Path, use: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(DataConfig(use=use), tmp_path)
    assert f"there is no data set {use!r}, did you mean {meant!r}?" in caught.value.message
    assert (
        "cifar10, csv, csv_images, digits, fashion_mnist, image_folder, mnist, shards, tensors"
        in caught.value.hint
    )
    assert caught.value.exit_status == 2


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOCKSTEP_CACHE", str(tmp_path / "file" / "x"))
    with pytest.raises(MachineError, match="cannot be written"):
        prepare(config(), tmp_path)


def child(request: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    text = request if isinstance(request, str) else json.dumps(request)
    command = [sys.executable, "-P", "-m", "lockstep.data.prepare"]
    return subprocess.run(
        command, input=text, capture_output=True, text=True, cwd=cwd, timeout=200, check=False
    )


def ask(data: dict, base: Path) -> subprocess.CompletedProcess[str]:
    return child({"data": data, "base": str(base)}, base)


def test_the_child_answers_with_facts(tmp_path: Path) -> None:
    done = ask({"args": SMALL, "val_size": 7}, tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    facts = DatasetInfo.from_json(json.loads(done.stdout)["facts"])
    assert facts == prepare(config(val_size=7), tmp_path)


def test_the_child_answers_with_an_error(tmp_path: Path) -> None:
    done = ask({"use": "mnst"}, tmp_path)
    assert done.returncode == 2
    assert done.stderr == ""
    error = error_from_json(json.loads(done.stdout)["error"])
    assert isinstance(error, UsageError)
    assert "did you mean 'mnist'" in error.message


PRINTS = """
import os, sys, threading, time
print("imported")
def data(fail=False, leave=False):
    print("called")
    os.write(1, b"raw\\n")
    os.system("echo shell")
    if leave:
        sys.exit("left")
    if fail:
        raise ValueError("on purpose")
    threading.Thread(target=time.sleep, args=(1000,)).start()
    import torch
    return {"train": (torch.zeros(3, 2), torch.zeros(3))}
"""


def test_what_the_user_prints_goes_to_stderr_and_nothing_holds_the_child(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PRINTS)
    done = ask({"use": "./mine.py:data"}, tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["facts"]["train"]["length"] == 3
    assert sorted(done.stderr.split()) == ["called", "imported", "raw", "shell"]


@pytest.mark.parametrize(
    ("args", "message"), [({"fail": True}, "ValueError: on purpose"), ({"leave": True}, "SystemExit: left")]
)
def test_what_the_user_raises_comes_as_one_document(tmp_path: Path, args: dict, message: str) -> None:
    (tmp_path / "mine.py").write_text(PRINTS)
    done = ask({"use": "./mine.py:data", "args": args}, tmp_path)
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "TrainingError"
    assert message in error["message"]
    assert "mine.py:" in error["message"]
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("request_", ["", "{", "[]", '{"data": {"uze": 1}, "base": "/"}'])
def test_a_request_that_is_none(tmp_path: Path, request_: str) -> None:
    done = child(request_, tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["kind"] == "TrainingError"


def test_files_of_the_working_folder_do_not_shadow(tmp_path: Path) -> None:
    for name in ("data.py", "numpy.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')")
    assert ask({"args": SMALL}, tmp_path).returncode == 0


def test_offline_in_the_child(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = ask({"use": "mnist", "root": "file/data"}, tmp_path)
    assert done.returncode == 3
    assert "MNIST/raw/train-images-idx3-ubyte" in json.loads(done.stdout)["error"]["message"]


def test_mnist_through_the_child(tmp_path: Path) -> None:
    write_mnist(tmp_path / "data")
    done = ask({"use": "mnist", "val_size": 5}, tmp_path)
    assert json.loads(done.stdout)["facts"]["train"]["length"] == 25
    assert len([name for name in files_below(tmp_path / "cache") if name.endswith("facts.json")]) == 2


@pytest.mark.parametrize("size", [0, 30])
def test_the_test_set_of_a_built_in_one_stays_where_a_validation_set_is_split_off(
    tmp_path: Path, size: int
) -> None:
    whole, facts = prepare(config(), tmp_path), prepare(config(val_size=size), tmp_path)
    assert whole.others == {}
    assert facts.others == {"test": whole.val}
    assert facts.validation == (("val",) if size else ())
    assert DatasetInfo.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    here, there = (
        open_split(facts, "test", config(val_size=size), tmp_path),
        open_split(whole, "val", config(), tmp_path),
    )
    assert isinstance(here, ArraySplit)
    assert isinstance(there, ArraySplit)
    assert torch.equal(here.x, there.x)


def test_the_folds_are_parts_of_one_permutation(tmp_path: Path) -> None:
    folds = [DataConfig(args=SMALL, fold=FoldConfig(k=4, index=index)) for index in range(4)]
    opened = []
    for fold in folds:
        facts = prepare(fold, tmp_path)
        train, val = (open_split(facts, which, fold, tmp_path) for which in ("train", "val"))
        assert sorted([*train.subset, *val.subset]) == list(range(101))
        assert "test" in facts.others
        opened.append(val.subset.tolist())
    assert sorted(map(len, opened)) == [25, 25, 25, 26]
    assert sorted(row for rows in opened for row in rows) == list(range(101))
    assert len({prepare(fold, tmp_path).fingerprint for fold in folds}) == 4


def test_folds_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for fold, words in (
        (DataConfig(args=SMALL, fold=FoldConfig(k=102, index=0)), "data.fold.k: 102 parts of 101 samples"),
        (DataConfig(args=SMALL, fold=FoldConfig(k=2, index=0), val_size=3), "data.val_size says what"),
    ):
        with pytest.raises(UsageError, match=words):
            prepare(fold, tmp_path)
    with pytest.raises(ValueError, match="there is no part 2 of 2"):
        FoldConfig(k=2, index=2)

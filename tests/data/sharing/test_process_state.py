"""What a call changes besides its result is seen, and what it only uses is not."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import ImageFile

from lockstep.data.sharing.process_state import ProcessState

CODE = """
import functools, logging, os, random, sys
import numpy as np
import torch

logger = logging.getLogger(__name__)
VOCABULARY = None
SETTINGS = {"model": {"sizes": [1, 2]}}
TABLE = np.zeros((3, 3))
WEIGHTS = torch.zeros(3)
GENERATOR = torch.Generator()
DRAWS = random.Random(0)

class Kept:
    count = 0
    def __init__(self): self.words = {"a"}

kept = Kept()

@functools.lru_cache
def table(): return [1, 2, 3]

def used():
    logger.warning("%s", table())
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    words = [word.upper() for word in kept.words]
    return {"x": torch.rand(3) + WEIGHTS, "y": TABLE + 1, "words": words, "n": SETTINGS["model"]["sizes"][0]}

def set_global():
    global VOCABULARY
    VOCABULARY = 3

def new_global():
    globals()["FOUND"] = 1

def deep(): SETTINGS["model"]["sizes"].append(3)
def of_class(): Kept.count = 1
def of_object(): kept.words.add("b")
def of_function(): table.known = 3; used.known = 3
def array(): TABLE[1, 1] = 4
def tensor(): WEIGHTS.add_(1)
def generator(): torch.rand(1, generator=GENERATOR)
def draws(): DRAWS.random()
def dtype(): torch.set_default_dtype(torch.float64)
def environment(): os.environ["LOCKSTEP_TEST_SET"] = "1"
def path(): sys.path.insert(0, "/somewhere")
def folder(): os.chdir("/")
def precision(): torch.set_float32_matmul_precision("high")
def errors(): np.seterr(all="ignore")
def pillow():
    from PIL import ImageFile
    ImageFile.LOAD_TRUNCATED_IMAGES = True
def files():
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
def helper(): import helper_of_a_user
"""
CHANGES = {
    "set_global": "VOCABULARY of users.py",
    "new_global": "FOUND of users.py",
    "deep": "SETTINGS of users.py",
    "of_class": "[Kk]ept of users.py",
    "of_object": "kept of users.py",
    "of_function": "(used|table) of users.py",
    "array": "TABLE of users.py",
    "tensor": "WEIGHTS of users.py",
    "generator": "GENERATOR of users.py",
    "draws": "DRAWS of users.py",
    "dtype": "default type of tensors",
    "environment": "environment",
    "path": "path of modules",
    "folder": "working folder",
    "precision": "precision of matrix products",
    "errors": "NumPy's errors",
    "pillow": "LOAD_TRUNCATED_IMAGES",
    "files": "limit of open files",
    "helper": "imports helper_of_a_user.py",
}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    import numpy as np

    (tmp_path / "users.py").write_text(CODE)
    (tmp_path / "helper_of_a_user.py").write_text("known = 1\n")
    spec = importlib.util.spec_from_file_location("users_of_a_test", tmp_path / "users.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    monkeypatch.setitem(sys.modules, "users_of_a_test", made)
    monkeypatch.delenv("LOCKSTEP_TEST_SET", raising=False)
    before = (
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        np.geterr(),
        resource.getrlimit(resource.RLIMIT_NOFILE),
        str(Path.cwd()),
    )
    spec.loader.exec_module(made)
    yield made
    torch.set_default_dtype(before[0])
    torch.set_float32_matmul_precision(before[1])
    np.seterr(**before[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, before[3])
    os.chdir(before[4])
    os.environ.pop("LOCKSTEP_TEST_SET", None)
    sys.modules.pop("helper_of_a_user", None)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named(module: ModuleType, name: str) -> None:
    before = ProcessState.now()
    getattr(module, name)()
    assert re.search(CHANGES[name], before.change_until(ProcessState.now()))


def test_what_is_only_used_is_no_change(module: ModuleType) -> None:
    before = ProcessState.now()
    module.used()
    assert before.change_until(ProcessState.now()) == ""

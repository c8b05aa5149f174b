"""A batch size that ``data()`` returns, from the plan to a resumed run."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.training.config.run_spec import read_spec
from tests.helpers.launch import Launch, run_folder

CODE = """
import torch

def data():
    x = torch.arange(48.0).reshape(24, 2)
    return {"train": (x, torch.arange(24) % 3), "val": None, "batch_size": 12}
"""
CONFIG = "data: {use: './exp.py:data'}\nmodel: {use: linear}\ntrain: {epochs: 1}\n"
FOUND = "data.batch_size: 12, as ./exp.py:data returns it"


def test_the_plan_goes_by_it(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "exp.py").write_text(CODE)
    (path := tmp_path / "exp.yaml").write_text(CONFIG)
    plan = launch("train", str(path), "--cpu", "1", "--dry-run")
    assert plan.status == 0, plan.err
    lines = plan.out.splitlines()
    assert FOUND in lines
    assert "batch 12 = 12, 2 steps/epoch" in plan.out
    assert any(
        line.strip().startswith("batch_size: 12 ") and line.endswith("# returned by ./exp.py:data")
        for line in lines
    )


@pytest.mark.exhaustive
def test_a_run_goes_by_it_and_goes_on_with_it_only(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "exp.py").write_text(CODE)
    (path := tmp_path / "exp.yaml").write_text(CONFIG)
    first = launch("train", str(path), "--cpu", "1", "--name", "run")
    assert first.status == 0, first.err
    assert FOUND in first.err.splitlines()
    assert "2 steps/epoch" in first.err
    assert read_spec(run_folder("run") / "spec.json").config.data.batch_size == 12
    again = launch("train", str(path), "train.epochs=2", "--cpu", "1", "--name", "run")
    assert again.status == 0, again.err
    (tmp_path / "exp.py").write_text(CODE.replace("12}", "8}"))
    other = launch("train", str(path), "train.epochs=3", "--cpu", "1", "--name", "run")
    assert other.status == 2, other.err
    assert "data.batch_size: 12 in the run, 8 now" in other.err
    own = launch("resume", "run", "train.epochs=3", "--cpu", "1")  # by the run's own config
    assert own.status == 0, own.err
    assert FOUND not in own.err

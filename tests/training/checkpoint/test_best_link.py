from __future__ import annotations

from pathlib import Path
from typing import Any

from lockstep.training.checkpoint.best_link import link_best


def _state(*steps: int) -> dict[str, Any]:
    return {"ranking": {"monitor": "val/loss", "entries": [{"step": step, "value": 0.5} for step in steps]}}


def test_the_link_follows_the_best_checkpoint_that_is_there(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    for step in (5, 10):
        (checkpoints / f"step_{step:08d}").mkdir(parents=True)
    link_best(checkpoints, {})
    link_best(checkpoints, _state())
    assert not (tmp_path / "best").is_symlink()
    link_best(checkpoints, _state(5, 10))
    assert str((tmp_path / "best").readlink()) == "checkpoints/step_00000005"
    link_best(checkpoints, _state(10, 5))
    assert (tmp_path / "best").resolve() == checkpoints / "step_00000010"
    link_best(checkpoints, _state(15))  # it was not written
    assert str((tmp_path / "best").readlink()) == "checkpoints/step_00000010"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "checkpoints"]


def test_what_is_no_link_stays(tmp_path: Path) -> None:
    (tmp_path / "checkpoints/step_00000005").mkdir(parents=True)
    (tmp_path / "best").mkdir()
    link_best(tmp_path / "checkpoints", _state(5))
    assert (tmp_path / "best").is_dir()
    assert not (tmp_path / "best").is_symlink()

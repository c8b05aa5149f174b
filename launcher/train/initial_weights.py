"""``model.weights``: which files a new run starts from, fixed once, so that it starts from the same ones again."""

from __future__ import annotations

from pathlib import Path

from ...data.common import DamagedError, UsageError, closest_name, file_sha256
from ...training.checkpoint import MANIFEST_FILE, checkpoints_folder, newest_intact, verify, weight_files
from ...training.config import WeightsFile
from ..config import ResolvedConfig
from ..runs import runs_root


def find_initial_weights(resolved: ResolvedConfig) -> tuple[WeightsFile, ...]:
    """Return the files that ``model.weights`` names, and those of frozen models; none where it is unset.

    Raises:
        UsageError: it names no weights.
        DamagedError: the run or checkpoint that it names is damaged.
    """
    model, base = resolved.config.model, resolved.base
    asked = {"": model.weights, **{name: frozen.weights for name, frozen in model.frozen.items()}}
    return tuple(
        WeightsFile(str(path), file_sha256(path), name)
        for name, weights in asked.items()
        if weights is not None
        for path in _files(weights, base, f"model.frozen.{name}.weights" if name else "model.weights")
    )


def _files(asked: str, base: Path, key: str) -> list[Path]:
    run = runs_root() / asked
    if (run / "spec.json").is_file():
        return _of_run(run)
    path = (base / Path(asked).expanduser()).resolve()
    if (path / "spec.json").is_file():
        return _of_run(path)
    if (path / MANIFEST_FILE).is_file():
        return _of_checkpoint(path)
    if not path.is_file():
        known = sorted(spec.parent.name for spec in runs_root().glob("*/spec.json"))
        near = closest_name(asked, known)
        raise UsageError(
            f"{key}: {asked} is neither a run in {runs_root()} nor a file in {base}"
            + (f"; did you mean {near}?" if near else ""),
            "name a run, a checkpoint's folder, a .safetensors file or one that torch.save has written",
        )
    return [path]


def _of_run(run: Path) -> list[Path]:
    return _of_checkpoint(newest_intact(checkpoints_folder(run))[0])


def _of_checkpoint(path: Path) -> list[Path]:
    found = [path / name for name in weight_files(verify(path))]
    if not found:
        raise DamagedError(f"{path} holds no weights", "name another checkpoint")
    return found

"""Which checkpoints of a run are whole: names, hashes and sizes. No torch here: the launcher reads this file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..data.errors import DamagedError, UsageError

SCHEMA_VERSION = 1
_PREFIX = "step_"
_NEEDED = {"model.safetensors", "optimizer.safetensors", "state.json"}


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` steps lies."""
    return folder / f"{_PREFIX}{step:08d}"


def step_of(path: Path) -> int:
    """The steps that were done at a checkpoint, by its name."""
    return int(path.name.removeprefix(_PREFIX))


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in ``folder``, newest first, whole or not."""
    found = [path for path in folder.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdigit()]
    return sorted(found, key=step_of, reverse=True)


def write_manifest(folder: Path) -> None:
    """Write ``manifest.json`` over the files that ``folder`` has."""
    files = sorted(path for path in folder.iterdir())
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "files": {p.name: {"sha256": _sha256(p), "bytes": p.stat().st_size} for p in files},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def verify(path: Path) -> set[str]:
    """The names of a checkpoint's files, each of which is what was written.

    Raises:
        DamagedError: a file is missing or is not what the manifest says.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        files = {name: (entry["sha256"], entry["bytes"]) for name, entry in manifest["files"].items()}
        missing = _NEEDED - set(files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path / "manifest.json", f"cannot be read ({error})") from error
    if missing:
        raise _damaged(path / "manifest.json", f"does not list {', '.join(sorted(missing))}")
    for name, (digest, size) in files.items():
        file = path / name
        if not file.is_file():
            raise _damaged(file, "is missing")
        if file.stat().st_size != size or _sha256(file) != digest:
            raise _damaged(file, "is not what was written: its SHA-256 differs from the manifest's")
    return set(files)


def read_state(path: Path) -> dict[str, Any]:
    """``state.json`` of a checkpoint that was verified."""
    state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
    return state


def newest_whole(folder: Path, step: int | None = None) -> tuple[Path, list[DamagedError]]:
    """The newest whole checkpoint in ``folder``, or the one of ``step``, and the damaged ones passed over.

    Raises:
        UsageError: there is none.
        DamagedError: the only ones are damaged, or the one that was asked for is.
    """
    found = list_checkpoints(folder)
    if step is not None:
        found = [path for path in found if path == checkpoint_path(folder, step)]
    if not found:
        raise UsageError(
            f"{folder}: there is no checkpoint" + ("" if step is None else f" of step {step}"),
            "train first, or name another run",
        )
    damaged: list[DamagedError] = []
    for path in found:
        try:
            verify(path)
        except DamagedError as error:
            damaged.append(error)
        else:
            return path, damaged
    raise damaged[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: Path, what: str) -> DamagedError:
    return DamagedError(f"{path} {what}", "use an earlier checkpoint with --checkpoint STEP")

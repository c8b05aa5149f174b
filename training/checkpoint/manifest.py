"""Which checkpoints of a run are whole: names, hashes and sizes. No torch here: the launcher reads this file."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...data.common import DamagedError, UsageError, file_sha256
from .layout import (
    MANIFEST_FILE,
    REQUIRED_FILES,
    STATE_FILE,
    checkpoint_path,
    list_checkpoints,
    shard_files,
    step_of,
)
from .origin import STATE_KEYS, refuse_other_state, refuse_other_step

SCHEMA_VERSION = 2
SHARDED_VERSION = 3
"""Of a checkpoint with shards, which a reader of version 2 would take for one with tensors missing."""
_MAX_NAMED = 8  # damaged checkpoints; of more their number


def write_manifest(
    folder: Path,
    state: dict[str, Any],
    layout: dict[str, dict[str, str]],
    shards: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Write ``manifest.json`` over the files that ``folder`` has.

    Args:
        folder: of the checkpoint.
        state: what ``state.json`` holds.
        layout: for each safetensors file, tensor name to its type and shape.
        shards: the entries of what other ranks have written there, by file name.
    """
    shards = shards or {}
    own = [path for path in sorted(folder.iterdir()) if path.name not in shards]
    manifest = {
        "schema_version": SHARDED_VERSION if shards else SCHEMA_VERSION,
        **{key: state.get(key) for key in STATE_KEYS},
        **({"shards": len(shards)} if shards else {}),
        "files": {**{path.name: file_entry(path, layout.get(path.name)) for path in own}, **shards},
    }
    (folder / MANIFEST_FILE).write_text(_with_checksum(manifest), encoding="utf-8")


def file_entry(path: Path, tensors: dict[str, str] | None) -> dict[str, Any]:
    """Return what a manifest says of a file: its hash, its size and, where it holds tensors, which."""
    entry: dict[str, Any] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    return entry if tensors is None else {**entry, "tensors": tensors}


def _with_checksum(manifest: dict[str, Any]) -> str:
    """Return the manifest's text with a hash of itself, so that no byte of it can change unnoticed."""
    seal = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return json.dumps({**manifest, "sha256": seal}, indent=1) + "\n"


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of the checkpoint in ``path``.

    Raises:
        DamagedError: it is not there, or not as it was written.
    """
    try:
        text = (path / MANIFEST_FILE).read_bytes().decode()
        manifest: dict[str, Any] = json.loads(text)
        version = manifest["schema_version"]
        whole = _with_checksum({key: value for key, value in manifest.items() if key != "sha256"}) == text
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path / MANIFEST_FILE, f"cannot be read ({error})") from error
    if not whole:
        raise _damaged(path / MANIFEST_FILE, "is not what was written: its SHA-256 differs from its own")
    if version not in (SCHEMA_VERSION, SHARDED_VERSION):
        raise _damaged(path / MANIFEST_FILE, f"has version {version}, this Lockstep reads {SHARDED_VERSION}")
    return manifest


def verify(path: Path) -> set[str]:
    """Check that a checkpoint lies where it belongs and that each file is what was written; return the files' names.

    Raises:
        DamagedError: a file is missing or is not what the manifest says, or the folder is another step's or run's.
    """
    manifest = read_manifest(path)
    refuse_other_step(path, manifest)
    files: dict[str, dict[str, Any]] = manifest["files"]
    if missing := {*REQUIRED_FILES, *shard_files(manifest.get("shards", 0))} - set(files):
        raise _damaged(path / MANIFEST_FILE, f"does not list {', '.join(sorted(missing))}")
    for name, entry in files.items():
        _verify_file(path / name, entry)
    refuse_other_state(path, manifest, read_state(path))
    return set(files)


def _verify_file(file: Path, entry: dict[str, Any]) -> None:
    if not file.is_file():
        raise _damaged(file, "is missing")
    if file.stat().st_size == entry["bytes"] and file_sha256(file) == entry["sha256"]:
        return
    if (other := _checkpoint_of(file)) is not None:
        raise _damaged(file, f"is that of {other}: they were mixed up")
    raise _damaged(file, "is not what was written: its SHA-256 differs from the manifest's")


def _checkpoint_of(file: Path) -> str | None:
    """Find the other checkpoint of the run that a file belongs to."""
    digest = file_sha256(file)
    for path in list_checkpoints(file.parent.parent):
        with suppress(DamagedError):
            if read_manifest(path)["files"].get(file.name, {}).get("sha256") == digest:
                return path.name
    return None


def is_intact(path: Path) -> bool:
    """Say whether ``verify`` finds nothing wrong."""
    try:
        verify(path)
    except DamagedError:
        return False
    return True


def is_in_place(path: Path) -> bool:
    """Tell whether a checkpoint is that of its folder's step and run; whether its tensors are whole is not looked at.

    One whose manifest or state cannot be read is damaged, not out of place.
    """
    try:
        manifest, state = read_manifest(path), read_state(path)
    except DamagedError:
        return True
    try:
        refuse_other_step(path, manifest)
        refuse_other_state(path, manifest, state)
    except DamagedError:
        return False
    return True


def newest_checkpoint_step(folder: Path, default: int) -> int:
    """Return the step of the newest checkpoint that lies where it belongs, whole or not; ``default`` without one."""
    return next((step_of(path) for path in list_checkpoints(folder) if is_in_place(path)), default)


def read_state(path: Path) -> dict[str, Any]:
    """Read ``state.json`` of a checkpoint that was verified.

    Raises:
        DamagedError: it is no JSON object, although its checksum is right.
    """
    try:
        state = json.loads((path / STATE_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(path / STATE_FILE, f"cannot be read ({error})") from error
    if not isinstance(state, dict):
        raise _damaged(path / STATE_FILE, "is no JSON object")
    return state


def newest_intact(folder: Path, step: int | None = None) -> tuple[Path, list[DamagedError]]:
    """Find the newest whole checkpoint in ``folder``, or the one of ``step``, and the damaged ones passed over.

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
    raise _all_damaged(folder, damaged) if step is None else damaged[0]


def _all_damaged(folder: Path, damaged: list[DamagedError]) -> DamagedError:
    rows = [f"  {error.message}" for error in damaged[:_MAX_NAMED]]
    rows += [f"  and {len(damaged) - _MAX_NAMED} more"] if len(damaged) > _MAX_NAMED else []
    return DamagedError(
        f"{folder}: no checkpoint is whole\n" + "\n".join(rows),
        "bring the files of one back from a copy; or move them all away, and the run begins at its first step",
    )


def _damaged(path: Path, what: str) -> DamagedError:
    return DamagedError(f"{path} {what}", "bring it back from a copy, or use another checkpoint")

"""A checkpoint that all ranks write together: each its own rows, and rank 0 the rest, the manifest and the name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..rank import Group
from .layout import shard_file, shard_files
from .storage import CheckpointContents, commit, prepare, write_shard


def total_bytes(snapshot: CheckpointContents, ranks: Group) -> int:
    """Return the bytes of all that the ranks have to write together. Collective over ``ranks``."""
    return sum(
        _gathered(ranks, sum(tensor.nbytes for tensor in (snapshot.shard or {}).values()) + snapshot.nbytes)
    )


def write_sharded(
    temporary: Path,
    final: Path,
    snapshot: CheckpointContents,
    nbytes: int,
    ranks: Group,
    fence: Callable[[], None] | None = None,
) -> None:
    """Write a rank's part of a checkpoint into ``temporary``; rank 0 makes it the one at ``final``.

    Collective over ``ranks``. There is no checkpoint until rank 0 has heard from every rank that its file is on the
    disk, with which hash, and has put a manifest of all beside them: then one rename makes it one.

    Args:
        temporary: the same on every rank, and used by no other attempt.
        final: the checkpoint's path.
        snapshot: this rank's shard; on rank 0 the whole tensors and the state, too.
        nbytes: of all ranks.
        ranks: used by nothing else at the same time.
        fence: as of ``write_checkpoint``; of rank 0.

    Raises:
        OSError: on rank 0: some rank could not write; nothing of it is left, and what was there before is as it was.
    """
    if not _begun(temporary, final, snapshot, nbytes, ranks):
        return
    own = temporary / shard_file(ranks.rank, ranks.world_size)
    entries = _gathered(ranks, _written(own, snapshot.shard or {}))
    if ranks.rank == 0:
        shards = dict(zip(shard_files(ranks.world_size), entries, strict=True))
        _refuse_unwritten(temporary, shards)
        commit(temporary, final, snapshot, fence, shards)


def _begun(temporary: Path, final: Path, snapshot: CheckpointContents, nbytes: int, ranks: Group) -> bool:
    """Have rank 0 make the folder; say on every rank whether there is something to write."""
    begun, failure = False, None
    if ranks.rank == 0:
        try:
            begun = prepare(temporary, final, snapshot, nbytes)
        except OSError as error:
            failure = error
    begun = bool(_gathered(ranks, begun)[0])
    if failure is not None:
        raise failure
    return begun


def _written(file: Path, shard: dict[str, Any]) -> dict[str, Any]:
    """Write a rank's file; return the manifest's entry, or why it cannot be written."""
    try:
        return write_shard(file, shard)
    except OSError as error:
        return {"errno": error.errno, "why": f"{file.name}: {error.strerror or error}"}
    except SafetensorError as error:
        return {"errno": None, "why": f"{file.name}: {error}"}


def _refuse_unwritten(temporary: Path, shards: dict[str, dict[str, Any]]) -> None:
    """Raise, on rank 0, what a rank could not do; then nothing of the checkpoint is left."""
    for name, entry in shards.items():
        file = temporary / name
        if "why" not in entry and file.is_file() and file.stat().st_size == entry["bytes"]:
            continue
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(entry.get("errno"), entry.get("why") or f"{name} is not where rank 0 looks for it")


def _gathered(ranks: Group, value: Any) -> list[Any]:
    return [json.loads(row) for row in ranks.gather_bytes(json.dumps(value).encode())]

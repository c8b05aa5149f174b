"""``RUN/best``: a link to the checkpoint that is best by the run's metric."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .layout import checkpoint_path

BEST = "best"


def link_best(checkpoints: Path, state: Mapping[str, Any]) -> None:
    """Let the link name the checkpoint that a state ranks first, where that is there; what is not a link stays.

    A file system that has no links has no ``best``: ``--checkpoint best`` does not need it.

    Args:
        checkpoints: the folder of all.
        state: of the newest one.
    """
    entries = state.get("ranking", {}).get("entries")
    if not entries:
        return
    path = checkpoint_path(checkpoints, int(entries[0]["step"]))
    link = checkpoints.parent / BEST
    target = f"{checkpoints.name}/{path.name}"
    with suppress(OSError):
        if not path.is_dir() or (link.exists() and not link.is_symlink()):
            return
        if link.is_symlink() and os.readlink(link) == target:  # noqa: PTH115 - the text is compared
            return
        new = link.with_name(f".{BEST}.{os.getpid()}")
        new.symlink_to(target)
        new.replace(link)

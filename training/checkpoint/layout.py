"""The layout of a checkpoint on disk: its folder's name and its files. No torch here: the launcher reads it as well.

One folder, ``step_00001234``: a safetensors file for each part, ``state.json``, and ``manifest.json`` with the SHA-256
of every other file, written last. While it is written its name begins with a dot and ends with ``.tmp``.

Of tensors that are cut over the ranks, each rank writes its rows into ``shard-00000-of-00004.safetensors``, as
``model/NAME``, ``optimizer/NAME`` and ``ema/NAME``; one below the other they are the whole tensor.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

REQUIRED_PARTS = ("model", "optimizer")
OPTIONAL_PARTS = ("rank_buffers", "ema", "hooks")
"""A file only where there is something in it."""
STATE_FILE = "state.json"
MANIFEST_FILE = "manifest.json"
_FOLDER = "checkpoints"
_PREFIX = "step_"
_SHARD = re.compile("shard-[0-9]{5,}-of-[0-9]{5,}[.]safetensors")
_NAME = re.compile(_PREFIX + "[0-9]{8,18}")  # not isdigit, which a superscript is, too: int takes none


def tensor_file(part: str) -> str:
    """Return the name of the file that holds a part's tensors."""
    return f"{part}.safetensors"


def part_in(file: Path) -> str:
    """Return the part whose tensors a file holds, by its name."""
    return file.stem


def shard_file(rank: int, count: int) -> str:
    """Return the name of the file that holds a rank's rows of what is cut over the ranks."""
    return f"shard-{rank:05d}-of-{count:05d}.safetensors"


def shard_files(count: int) -> list[str]:
    """List the names of the files of all ranks, in their order."""
    return [shard_file(rank, count) for rank in range(count)]


def is_tensor_file(name: str) -> bool:
    """Say whether a file of a checkpoint holds tensors."""
    return name.endswith(".safetensors")


def is_shard_file(name: str) -> bool:
    """Say whether a file holds a rank's rows."""
    return bool(_SHARD.fullmatch(name))


def weight_files(files: Iterable[str]) -> list[str]:
    """Select, of a checkpoint's files, those that evaluation reads."""
    there = set(files)
    return [name for name in (*WEIGHT_FILES, *sorted(filter(is_shard_file, there))) if name in there]


REQUIRED_FILES = frozenset({*map(tensor_file, REQUIRED_PARTS), STATE_FILE})
WEIGHT_FILES = (tensor_file("model"), tensor_file("ema"))
"""What evaluation uses; of names in both files, the later file's."""


def checkpoints_folder(run: Path) -> Path:
    """Return the folder that holds the checkpoints of a run, by the run's folder."""
    return run / _FOLDER


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint after ``step`` steps."""
    return folder / f"{_PREFIX}{step:08d}"


def step_of(path: Path) -> int:
    """Return the steps that were done at a checkpoint, by its name."""
    return int(path.name.removeprefix(_PREFIX))


def has_checkpoint_name(path: Path) -> bool:
    """Tell whether a path has the name that some checkpoint is written under."""
    return bool(_NAME.fullmatch(path.name)) and path == checkpoint_path(path.parent, step_of(path))


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints in ``folder``, newest first, whole or not; other names than theirs are ignored."""
    return sorted(filter(has_checkpoint_name, folder.glob(f"{_PREFIX}*")), key=step_of, reverse=True)


def temporary_path(path: Path, writer: str = "") -> Path:
    """Return the name under which a process, this one unless another is named, writes or removes ``path``."""
    return path.with_name(f".{path.name}.{writer or os.getpid()}.tmp")


def aside_path(path: Path) -> Path:
    """Return a new name for what has the checkpoint's name but is none of the run: it is kept, and never read."""
    return path.with_name(f"damaged-{path.name}-{time.time_ns()}")


def leftovers(folder: Path) -> Iterator[Path]:
    """Yield what processes that were killed while writing or removing a checkpoint have left."""
    return folder.glob(f".{_PREFIX}*.tmp")

"""Opens in a rank what was made ready before: memory maps, image files, or the user's own data set."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch.utils.data import Dataset

from ..common import DamagedError
from ..config import DataConfig, DatasetInfo, SplitInfo
from ..order import Indices
from . import user_dataset as user
from .array_cache import load_array
from .image_files import load
from .splits import ArraySplit, MapSplit

Which = Literal["train", "val"]


class CsvImageDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The images of ``csv_images``: a sample is uint8 [C, H, W] and an int64 class index of shape [].

    Args:
        split: names the files with the paths and targets.
        facts: of the data set that the split belongs to.
        table: the CSV, as people know it.
        resize: make images of another size fit, instead of refusing them.
    """

    def __init__(self, split: SplitInfo, facts: DatasetInfo, table: str, *, resize: bool) -> None:
        self._paths, self._offsets, self._targets = (
            load_array(split.files[role]) for role in ("paths", "offsets", "y")
        )
        channels, height, width = facts.input_shape or (3, 0, 0)
        self._root = Path(facts.image_root or "")
        self._mode, self._size = ("L" if channels == 1 else "RGB"), (height, width)
        self._table = table
        self._resize = resize

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        start, stop = self._offsets[row : row + 2]
        path = self._root / self._paths[start:stop].tobytes().decode()
        try:
            image = load(path, self._mode, self._size, resize=self._resize)
        except DamagedError as error:
            raise DamagedError(f"{error.message} (row {row} of {self._table})", error.hint) from error
        return torch.from_numpy(image), torch.tensor(int(self._targets[row]))


def open_split(facts: DatasetInfo, which: Which, config: DataConfig, base: Path) -> ArraySplit | MapSplit:
    """Opens one split in this process; nothing is downloaded, checked or split here.

    Args:
        facts: from ``prepare`` on the same machine.
        which: ``train`` or ``val``; ``val`` must be there.
        config: the ``data`` section that the facts are of.
        base: the folder of the config file.

    Raises:
        DamagedError: a file is gone, or the user's data set has another length than before.
    """
    split = facts.train if which == "train" else facts.val
    if split is None:
        raise ValueError(f"{facts.name} has no split {which!r}")
    subset = None if split.subset is None else load_array(split.subset)
    if facts.kind == "user":
        rows = split.length if subset is None else facts.train.length + (facts.val.length if facts.val else 0)
        return _open_user(rows, split, subset, which, config, base)
    if facts.kind == "images":
        source = "val" if which == "val" and subset is None else "train"
        table = str(config.args.get(f"{source}_csv"))
        images = CsvImageDataset(split, facts, table, resize=config.args.get("size") is not None)
        return MapSplit(images, subset)
    x, y = (torch.from_numpy(load_array(split.files[role])) for role in ("x", "y"))
    return ArraySplit(x, y, subset)


def _open_user(
    rows: int, split: SplitInfo, subset: Indices | None, which: Which, config: DataConfig, base: Path
) -> ArraySplit | MapSplit:
    # A split-off validation set lies in the user's train.
    data = user.call(config, base)[which if subset is None else "train"]
    if len(data) != rows:
        raise DamagedError(
            f"{config.use} returned {len(data)} samples where it had returned {rows} before",
            "its length must be the same on every call: give it a seed, or a fixed list",
        )
    if user.contents(config.use, data) != split.contents:
        raise DamagedError(
            f"{config.use} returned other data in this process than before the ranks started",
            "make it the same on every call: seed its generators, sort what comes out of sets and folders",
        )
    return ArraySplit(data.x, data.y, subset) if isinstance(data, user.Tensors) else MapSplit(data, subset)

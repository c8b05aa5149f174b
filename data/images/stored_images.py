"""The image files of one split, read one by one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..cache import load_array
from ..common import DamagedError
from .image_files import load_image
from .image_split import ImageSettings


class StoredImages:
    """The images of a split, read and decoded one by one."""

    def __init__(self, settings: ImageSettings) -> None:
        self.settings = settings
        self._paths, self._offsets = load_array(settings.paths), load_array(settings.offsets)
        self._root = Path(settings.root)
        self._bad: dict[str, str] = {}
        if settings.bad is not None:
            self._bad = json.loads(Path(settings.bad).read_text(encoding="utf-8"))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def name(self, row: int) -> str:
        """Return the path of an image below the root."""
        start, stop = self._offsets[row : row + 2]
        return self._paths[start:stop].tobytes().decode()

    def load(self, row: int) -> NDArray[np.uint8]:
        """Decode an image, uint8 [C, H, W].

        Raises:
            DamagedError: it cannot be read, with its row.
        """
        chosen = self.settings
        if (reason := self._bad.get(str(row))) is not None:
            raise DamagedError(reason, "correct this row, or remove it")
        try:
            return load_image(
                self._root / self.name(row),
                chosen.mode,
                chosen.size,
                resize=chosen.resize,
                may_be_colour=chosen.may_be_colour,
            )
        except DamagedError as error:
            raise DamagedError(f"{error.message} (row {row} of {chosen.listed_in})", error.hint) from error

"""What is known of the image files of a split before any is opened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

DECODER_VERSION = 1
"""Goes up when the same file becomes other pixels."""


@dataclass(frozen=True)
class ImageSettings:
    """The settings that decide which pixels the files of a split become."""

    root: str
    """The folder that the paths start from."""
    mode: str
    """``L`` or ``RGB``."""
    size: tuple[int, int]
    """(height, width)."""
    resize: bool
    may_be_colour: bool
    paths: str = field(compare=False)
    """An ``.npy`` file: all paths in UTF-8, one behind the other."""
    offsets: str = field(compare=False)
    """An ``.npy`` file: where each path begins, and where the last one ends."""
    listed_in: str = field(compare=False)
    """The file that lists the images, for messages."""
    bad: str | None = field(default=None, compare=False)
    """A ``.json`` file of rows that cannot be read, and why; None: there are none."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (1 if self.mode == "L" else 3, *self.size)

    def identity(self) -> list[Any]:
        """List all that decides about pixels, as plain JSON values: the decoders' versions, too."""
        from PIL import __version__, features

        decoders = [features.version(name) for name in ("jpg", "webp", "zlib", "libtiff")]
        chosen = [self.root, self.mode, self.size, self.resize, self.may_be_colour]
        return [DECODER_VERSION, __version__, decoders, chosen]

    def to_json(self) -> str:
        """Write them as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ImageSettings:
        """Read what ``to_json`` wrote."""
        document: Mapping[str, Any] = json.loads(text)
        return cls(**{**document, "size": tuple(document["size"])})


@dataclass(frozen=True)
class ImageSplit:
    """The images of a split, and the state that their files are in."""

    settings: ImageSettings
    rows: int
    state: str
    """A hash that changes with the names, the sizes and the times of the files."""

    skip: float | None = None
    """How many images may be bad, as ``data.max_bad``; None: none."""
    name: str = "images"
    """Of the split, for messages."""

    @property
    def bytes(self) -> int:
        """Size of its entry."""
        return self.rows * prod(self.settings.shape)

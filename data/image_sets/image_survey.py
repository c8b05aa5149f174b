"""A look at the images of a set before anything starts: what all of them are, and which cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common import DamagedError
from ..images import LOST, ImageHeader, read_image_header
from ..order import permute
from ..sources import Table

MOST = 10_000
"""Images of a split whose headers are read, at 0.1 ms each; of more, a fixed sample."""
_SAMPLE_KEY = (0x737572766579, 0)  # "survey" in ASCII


@dataclass(frozen=True)
class ImageSurvey:
    """The findings about the images that were looked at."""

    images: int
    """In all."""
    looked_at: int
    grey: int
    """Of those that were looked at."""
    turned: int
    """Those that a camera stored on their side, with a note of it."""
    size: tuple[int, int]
    """(height, width) of most of them, upright."""
    smallest: tuple[int, int]
    """The least height and the least width."""
    largest: tuple[int, int]
    lost: dict[str, int]
    """How many have what is not read, by the keys of ``image_files.LOST``."""

    @property
    def mode(self) -> str:
        """``L`` where every image is grey, else ``RGB``."""
        return "L" if self.grey == self.looked_at else "RGB"

    @property
    def identity(self) -> tuple[str, ...]:
        """Return what is part of the set's fingerprint: earlier versions did not turn images upright."""
        return ("upright",) if self.turned else ()

    def notes(self, *, mode_given: bool, size: tuple[int, int]) -> tuple[str, ...]:
        """Say what was guessed, what is not read, and what may be a mistake.

        Args:
            mode_given: the user has chosen the channels.
            size: that the images are read in.
        """
        notes = []
        if 0 < self.grey < self.looked_at and not mode_given:
            verb = "is grey" if self.grey == 1 else "are grey"
            notes.append(f"{self._of(self.grey)} {verb} and read as colour, as the others are")
        if self.turned:
            verb = "is turned" if self.turned == 1 else "are turned"
            notes.append(f"{self._of(self.turned)} {verb} upright, as the EXIF data says")
        notes += [f"{self._of(count)} {LOST[name][count > 1]}" for name, count in self.lost.items()]
        if self.smallest != size or self.largest != size:
            notes.append(
                f"images of {_pixels(self.smallest)} to {_pixels(self.largest)} pixels (high x wide)"
                f" are resized to {_pixels(size)}"
            )
        if self.looked_at < self.images:
            notes.append(f"{self.looked_at:,} of {self.images:,} images were looked at")
        return tuple(notes)

    def _of(self, count: int) -> str:
        return f"{count:,} of {self.looked_at:,} {'image' if self.looked_at == 1 else 'images'}"

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ImageSurvey:
        """Rebuild what ``to_json`` gave."""
        pairs = {key: tuple(document[key]) for key in ("size", "smallest", "largest")}
        return cls(**{**document, **pairs})


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def survey_images(
    tables: Mapping[str, Table],
    root: Path,
    *,
    one_size: bool,
    leave_out: Mapping[str, frozenset[int]] | None = None,
) -> ImageSurvey:
    """Read the headers of a set's images, of a large set those of a fixed sample.

    Args:
        tables: split to its rows.
        root: the folder of their paths.
        one_size: all have to be of one size.
        leave_out: rows of each split that are bad; then others that cannot be used are left out, too. None: such are
            errors.

    Raises:
        DamagedError: an image cannot be read, or is of another size; it is named by its row.
    """
    headers = {which: _headers(which, table, root, leave_out) for which, table in tables.items()}
    found = [header for rows in headers.values() for header in rows.values()]
    size = Counter(header.size for header in headers["train"].values()).most_common(1)[0][0]
    sizes = [header.size for header in found]
    if one_size and leave_out is None:
        for which, rows in headers.items():
            _refuse_other_sizes(tables[which], rows, size)
    return ImageSurvey(
        images=sum(len(table.paths) for table in tables.values()),
        looked_at=len(found),
        grey=sum(header.mode == "L" for header in found),
        turned=sum(header.is_turned for header in found),
        size=size,
        smallest=(min(high for high, _ in sizes), min(wide for _, wide in sizes)),
        largest=(max(high for high, _ in sizes), max(wide for _, wide in sizes)),
        lost=dict(sorted(Counter(name for header in found for name in header.lost).items())),
    )


def _headers(
    which: str, table: Table, root: Path, leave_out: Mapping[str, frozenset[int]] | None
) -> dict[int, ImageHeader]:
    """Read headers by row."""
    headers: dict[int, ImageHeader] = {}
    bad: list[tuple[int, str]] = []
    for row in _chosen_rows(len(table.paths)):
        if leave_out is not None and row in leave_out[which]:
            continue
        try:
            headers[row] = read_image_header(root / table.paths[row])
        except DamagedError as error:
            bad.append((row, f"{error.message}: {error.hint}"))
    if bad and (leave_out is None or not headers):
        raise table.bad_rows_error(bad)
    return headers


def _chosen_rows(n: int) -> Iterator[int]:
    if n <= MOST:
        return iter(range(n))
    return iter(sorted(permute(np.arange(MOST, dtype=np.int64), n, _SAMPLE_KEY).tolist()))


def _refuse_other_sizes(table: Table, headers: Mapping[int, ImageHeader], size: tuple[int, int]) -> None:
    bad = [
        (row, f"{table.paths[row]} is {header.size[0]} x {header.size[1]} pixels (high x wide)")
        for row, header in headers.items()
        if header.size != size
    ]
    if bad:
        error = table.bad_rows_error(bad)
        what = f"most images are {size[0]} x {size[1]} pixels, and not all"
        hint = "set data.args.size to [height, width], and every image is resized to it"
        raise DamagedError(f"{what}\n{error.message}", hint)

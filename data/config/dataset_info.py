"""What is known about a data set before the ranks start, as plain values that travel between processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .data_look import DataLook, FoundSetting
from .sampling import Sampling
from .split_info import SplitInfo


@dataclass(frozen=True)
class DatasetInfo:
    """A whole data set."""

    name: str
    """What ``data.use`` said."""
    kind: Literal["arrays", "images", "user", "shards"]
    """Held whole as arrays, read file by file, a user's own callable, or read in groups of rows."""
    train: SplitInfo
    val: SplitInfo | None
    input_shape: tuple[int, ...] | None
    """Shape of one input as the model sees it, for images (channels, height, width)."""
    input_dtype: str | None
    """NumPy name of the stored type."""
    classes: int | None
    """Number of classes; None when targets are not class indices."""
    class_names: tuple[str, ...] | None
    target_shape: tuple[int, ...] | None
    """Shape of one target: () for a class index."""
    mean: tuple[float, ...] | None
    """Per channel, subtracted after scaling; None is no normalisation."""
    std: tuple[float, ...] | None
    image_root: str | None = None
    """The folder that the paths of ``images`` are relative to."""
    fingerprint: str = ""
    """SHA-256 over the contents that decide what a sample is; a changed data set has another one."""
    scale_uint8: bool = True
    """Whether uint8 inputs are divided by 255, before ``mean`` and ``std``; version 0.1 did so with all of them."""
    reading: str = ""
    """How samples are read, where that is a choice: from decoded images in the cache, or anew in every epoch."""
    notes: tuple[str, ...] = ()
    """What was guessed about it, and what may be a mistake."""
    found: tuple[FoundSetting, ...] = ()
    """Settings that were left out and that the data has decided."""
    others: dict[str, SplitInfo] = field(default_factory=dict)
    """Further splits by name: more validation sets, ``val_…``, and what is only evaluated when asked for, ``test…``."""
    look: DataLook | None = None
    """What samples were found to be; None in the spec of an earlier version."""
    sampling: Sampling | None = None
    """How often training samples come; None: each once in an epoch."""
    shared: dict[str, str] = field(default_factory=dict)
    """Of a user's own data: where this machine keeps what the callable has returned; nothing: each process calls it."""
    parts: dict[str, DatasetInfo] = field(default_factory=dict)
    """Of several data sets, each by its name."""

    @property
    def epoch_size(self) -> int:
        """Return the samples that an epoch has."""
        return self.sampling.epoch_size if self.sampling else self.train.length

    @property
    def all_notes(self) -> tuple[str, ...]:
        """What was guessed, what may be a mistake, and what the look has found suspicious."""
        return self.notes + (self.look.notes if self.look else ())

    @property
    def validation(self) -> tuple[str, ...]:
        """Name the splits that a run is evaluated on."""
        named = sorted(name for name in self.others if name.startswith("val"))
        return (*(("val",) if self.val else ()), *named)

    def split(self, which: str) -> SplitInfo | None:
        """Return a split by its name; None where there is none."""
        return {"train": self.train, "val": self.val, **self.others}.get(which)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values for ``json.dumps``."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> DatasetInfo:
        """Rebuild what ``to_json`` gave, also after a round trip through JSON text."""
        val, look = document["val"], document.get("look")
        rebuilt = ("train", "val", "others", "look", "found", "sampling", "parts")
        known = {key: _as_tuple(value) for key, value in document.items() if key not in rebuilt}
        sampling = document.get("sampling")
        return cls(
            **known,
            train=_split_from_json(document["train"]),
            val=None if val is None else _split_from_json(val),
            others={name: _split_from_json(one) for name, one in document.get("others", {}).items()},
            found=tuple(map(FoundSetting.from_json, document.get("found", ()))),
            look=None if look is None else DataLook.from_json(look),
            sampling=None if sampling is None else Sampling.from_json(sampling),
            parts={name: cls.from_json(part) for name, part in document.get("parts", {}).items()},
        )


def _split_from_json(document: dict[str, Any]) -> SplitInfo:
    return SplitInfo(**{key: _as_tuple(value) for key, value in document.items()})


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

"""What a look at a data set has shown, as plain values that travel between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ValueKind:
    """Values of one type and with as many axes."""

    type: str
    """``uint8``, or the name of a Python type."""
    shape: tuple[tuple[int, int], ...]
    """Of each axis the least and the greatest size."""
    samples: int
    """How many of the samples have it."""

    def __str__(self) -> str:
        if not self.shape:
            return self.type
        sizes = (str(low) if low == high else f"{low} to {high}" for low, high in self.shape)
        return f"{self.type} [{', '.join(sizes)}]"


@dataclass(frozen=True)
class PartLook:
    """One part of the samples: the input, the target, or a value within them."""

    name: str
    """Such as ``input`` or ``target.boxes``."""
    kinds: tuple[ValueKind, ...]
    """The most frequent first."""
    low: float | None
    """The least number in all samples; None without one."""
    high: float | None
    not_finite: int
    """Samples that hold NaN or an infinite number."""
    labels: tuple[tuple[int, int], ...] = ()
    """Of whole numbers of shape []: each that was seen, in their order, and in how many samples."""


@dataclass(frozen=True)
class SplitLook:
    """Some samples of a split."""

    samples: int
    """That were read."""
    length: int
    """Of the split."""
    unreadable: int
    """Of those that were tried."""
    parts: tuple[PartLook, ...]

    @property
    def target(self) -> PartLook | None:
        """The target where it is one value; None where values lie within it."""
        return next((part for part in self.parts if part.name == "target"), None)


@dataclass(frozen=True)
class DataLook:
    """The findings of a look at a data set before it is trained on."""

    train: SplitLook
    val: SplitLook | None
    notes: tuple[str, ...] = ()
    """What is suspicious."""

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values for ``json.dumps``."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> DataLook:
        """Rebuild what ``to_json`` gave, also after a round trip through JSON text."""
        val = None if document["val"] is None else _split(document["val"])
        return cls(_split(document["train"]), val, tuple(document["notes"]))


def _split(document: Mapping[str, Any]) -> SplitLook:
    return SplitLook(**{**document, "parts": tuple(map(_part, document["parts"]))})


def _part(document: Mapping[str, Any]) -> PartLook:
    labels = tuple((label, count) for label, count in document.get("labels", ()))
    return PartLook(**{**document, "kinds": tuple(map(_kind, document["kinds"])), "labels": labels})


def _kind(document: Mapping[str, Any]) -> ValueKind:
    return ValueKind(**{**document, "shape": tuple((low, high) for low, high in document["shape"])})


BATCH_SIZE = "data.batch_size"
"""Key of the found setting that takes the place of the config's default."""


@dataclass(frozen=True)
class FoundSetting:
    """A setting that was left out and that the data has decided."""

    key: str
    """Such as ``data.args.separator``."""
    value: Any
    """Of JSON's types, with tuples for its lists."""
    why: str

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> FoundSetting:
        """Rebuild what ``asdict`` gave, also after a round trip through JSON text."""
        value = document["value"]
        return cls(document["key"], tuple(value) if isinstance(value, list) else value, document["why"])

"""How often the samples of a training set come in an epoch, as plain values that travel between processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Sampling:
    """A rule by which samples do not all come once in an epoch."""

    kind: Literal["parts", "weights"]
    """Parts with a share of the epoch each, or a weight for each sample."""
    by: str
    """The key that asked for it, such as ``data.balance``."""
    epoch_size: int
    """Samples that an epoch has."""
    often: tuple[float, float]
    """How often a sample comes in an epoch: the rarest of those that are drawn at all, and the most frequent one."""
    never: int = 0
    """Samples that are not drawn."""
    names: tuple[str, ...] = ()
    """Of the parts: sets or classes."""
    sizes: tuple[int, ...] = ()
    """Samples of each part."""
    shares: tuple[int, ...] = ()
    """Samples that each part has in an epoch."""
    files: dict[str, str] = field(default_factory=dict)
    """Role to the absolute path of an ``.npy`` file: ``rows``, the samples in the order of the parts, or
    ``cumulative``, the sums of weights."""

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Sampling:
        """Rebuild what ``asdict`` gave, also after a round trip through JSON text."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
        }
        return cls(**values)

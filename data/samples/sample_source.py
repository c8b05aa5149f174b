"""What a split calls its samples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SampleSource:
    """The name of a split's samples, and the place where they are made."""

    name: str = "data sample"
    where: str = ""
    """``FILE:LINE`` of the user's ``__getitem__``, else of what made the data set."""

"""What a built-in metric is made of."""

from __future__ import annotations

from dataclasses import dataclass

from .additive_metric import Collect, Finish


@dataclass(frozen=True)
class Statistics:
    """A metric without its name."""

    collect: Collect
    finish: Finish | None = None
    """None is sum / count."""
    kept: bool = False
    """The totals are kept for views, and nothing is logged."""

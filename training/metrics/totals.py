"""The totals of an evaluation to the numbers that are logged and to what is kept for views."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..rank import Group
from .confusion import CONFUSION_MATRIX, confusion_of
from .metric import Metric


def all_numbers(metrics: Mapping[str, Metric], totals: torch.Tensor, group: Group) -> dict[str, float]:
    """Return what is logged of all metrics, by name; every rank has rank 0's. Collective.

    Args:
        metrics: by name.
        totals: of all rows, one after the other, on the CPU.
        group: the ranks.
    """
    for metric in metrics.values():
        metric.reduce(group)
    if group.world_size == 1 or all(metric.is_mean for metric in metrics.values()):
        return _numbers(metrics, totals)
    own = json.dumps(_numbers(metrics, totals)).encode() if group.rank == 0 else b""
    found: dict[str, float] = json.loads(group.gather_bytes(own)[0])
    return found


def _numbers(metrics: Mapping[str, Metric], totals: torch.Tensor) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric, part in _parts(list(metrics.values()), totals):
        found |= metric.numbers(part)
    return found


def _parts(metrics: Sequence[Metric], totals: torch.Tensor) -> list[tuple[Metric, torch.Tensor]]:
    widths = [metric.width for metric in metrics]
    parts = totals[: sum(widths)].split(widths)
    return list(zip(metrics, parts, strict=True))


def confusion_view(metrics: Sequence[Metric], totals: torch.Tensor) -> dict[str, Any]:
    """Return the confusion matrix, [true class][predicted class], where one was counted."""
    for metric, part in _parts(metrics, totals):
        if metric.kept and part.numel():
            counts = confusion_of(metric.tree(part)).long()
            return {CONFUSION_MATRIX: counts.tolist()}
    return {}

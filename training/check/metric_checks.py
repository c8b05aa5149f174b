"""``launch check``: are statistics sums over samples, and does a metric object say the same of parts and of a whole?"""

from __future__ import annotations

from typing import Any

import torch

from ...data.common import definition_location
from ..metrics import Metric, ModuleMetric
from .finding import Finding

_ADVICE = "return what is added over samples, a number for each class or bin, and leave the rest to `finish`"
_TOLERANCE = 1e-4  # of statistics that are computed in float32


def check_statistics(metric: Metric, target: Any, targets: list[Any], outputs: Any) -> Finding:
    """Check whether the statistics of a batch are the sum of those of its parts.

    Args:
        metric: with statistics.
        target: of the whole batch.
        targets: of its parts.
        outputs: candidates, the output for the whole batch and for each part.
    """
    check, where = f"metric {metric.name}", definition_location(getattr(metric, "collect", metric))
    for output, parts in outputs:
        whole = metric.row(output, target)
        summed = torch.stack([metric.row(*pair) for pair in zip(parts, targets, strict=True)]).sum(0)
        apart = (whole - summed).abs() > _TOLERANCE * whole.abs().clamp(min=1)
        if bool(apart.any()):
            at = int(apart.nonzero()[0])
            what = f"number {at} of its statistics is {float(whole[at]):g}, but {float(summed[at]):g} by its parts"
            return Finding(check, "FAIL", what, where, _ADVICE)
    return Finding(check, "PASS", "statistics; those of a batch equal the sum of its parts'")


def check_module(metric: ModuleMetric, target: Any, targets: list[Any], outputs: Any) -> Finding:
    """Check whether a metric object says the same of a batch and of its parts; arguments as of ``check_statistics``."""
    check = f"metric {metric.name}"
    for output, parts in outputs:
        metric.reset()
        metric.row(output, target)
        whole = metric.numbers()
        metric.reset()
        for pair in zip(parts, targets, strict=True):
            metric.row(*pair)
        pieces = metric.numbers()
        metric.reset()
        for name, value in whole.items():
            if abs(value - pieces[name]) > _TOLERANCE * max(1, abs(value)):
                what = f"{name} is {value:g} of a batch, but {pieces[name]:g} of its parts"
                return Finding(check, "FAIL", what, "", "use a metric that does not depend on batches")
    how = ", ".join(f"{state}: {how}" for state, how in metric.reductions.items())
    return Finding(check, "PASS", f"states by their own reductions ({how}); a batch equals its parts")

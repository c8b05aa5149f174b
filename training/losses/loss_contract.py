"""What losses and metrics return, so that no average can be wrong: per sample, or a sum with its weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...data.common import TrainingError


def sum_loss(losses: Any, samples: int, name: str = "the loss") -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sum what a loss returned for ``samples`` samples: (sum, weight); a weight of None is the sample count.

    Raises:
        TrainingError: neither a tensor [samples] nor a pair (sum, weight).
    """
    if isinstance(losses, torch.Tensor) and losses.shape == (samples,):
        return losses.sum(), None
    if isinstance(losses, tuple) and len(losses) == 2:  # noqa: PLR2004 - a pair
        value, weight = losses
        if isinstance(value, torch.Tensor) and value.ndim == 0 and getattr(weight, "ndim", 0) == 0:
            return value, scalar_on(value.device, weight).detach()
    raise TrainingError(
        f"{name} returned {_describe_value(losses)} for {samples} samples",
        "return one loss per sample (reduction='none'), or (sum, weight): means of parts do not average exactly",
    )


def scalar_on(device: torch.device, number: Any) -> torch.Tensor:
    """Make a number a tensor; filled on the device, because copying it there would make the step wait."""
    if isinstance(number, torch.Tensor):
        return number
    return torch.full((), float(number), dtype=torch.float64, device=device)


def term_sums(terms: Mapping[str, Any], names: tuple[str, ...], samples: int) -> torch.Tensor:
    """Sum each term over ``samples`` samples: float64 [terms, 2], sums with their weights, detached.

    Args:
        terms: by name, each by the contract of ``sum_loss``.
        names: in the order of the result.
        samples: of the micro-batch.

    Raises:
        TrainingError: these are other terms than before.
    """
    if terms.keys() != set(names):
        raise TrainingError(
            f"the step returned the terms {', '.join(terms) or 'none'}, and {', '.join(names) or 'none'} at first",
            "return the same names for every batch; a term that is not asked for is (0 * loss.sum(), 0)",
        )
    rows = []
    for name in names:
        summed, weight = sum_loss(terms[name], samples, f"the step, for {name!r},")
        weight = scalar_on(summed.device, samples) if weight is None else weight
        rows += [summed.detach().double(), weight.to(summed.device, torch.float64)]
    return torch.stack(rows).view(len(names), 2)


def sum_metric(value: Any, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Convert what a metric returned to (sum, count), as float64 scalars on its device.

    Raises:
        TrainingError: not a pair of numbers.
    """
    if isinstance(value, tuple) and len(value) == 2:  # noqa: PLR2004 - a pair
        device = next((part.device for part in value if isinstance(part, torch.Tensor)), torch.device("cpu"))
        numbers = [scalar_on(device, part) if isinstance(part, int | float) else part for part in value]
        pair = [torch.as_tensor(part) for part in numbers]
        if all(part.ndim == 0 for part in pair):
            return pair[0].double(), pair[1].double()
    raise TrainingError(
        f"metric {name} returned {_describe_value(value)}",
        "return (sum, count): a mean of means is wrong as soon as batches differ in size; what is not a mean returns"
        " statistics, tensors that are added over samples, and has a `finish`",
    )


def _describe_value(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}" if value.ndim else "a single number"
    if isinstance(value, tuple):
        return f"a tuple ({', '.join(_describe_value(part) for part in value)})"
    return type(value).__name__

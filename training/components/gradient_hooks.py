"""Hooks on the gradients of parameters, which run in each process before its share is added to the others'."""

from __future__ import annotations

import torch
from torch import nn

from ..tensors import plain_name

_LARGE = 1e4
"""Beyond what gradients are clipped to."""
_TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3}
_HALF_TOLERANCE = 5e-2  # of the half types


def nonlinear_hooks(model: nn.Module) -> list[str]:
    """Name the parameters whose hooks give for a sum something else than the sum of what they give for its parts.

    A mask or a factor may be applied to each share of a gradient, a limit may not.
    """
    hooked = [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter._backward_hooks  # noqa: SLF001 - torch has no other list of them
    ]
    return [plain_name(name) for name, parameter in hooked if not _is_additive(parameter)]


def _is_additive(parameter: nn.Parameter) -> bool:
    one = torch.linspace(-1, 1, parameter.numel(), dtype=torch.float64, device=parameter.device)
    parts = [part.view(parameter.shape).to(parameter.dtype) for part in (_LARGE * one, one.flip(0).exp())]
    try:
        first, second, both = (_hooked(parameter, gradient) for gradient in (*parts, parts[0] + parts[1]))
    except Exception:  # noqa: BLE001 - the user's hook: what it raises is raised again in the first step
        return True
    scale = float(both.abs().max().clamp(min=1)) if both.numel() else 1.0
    tolerance = _TOLERANCE.get(parameter.dtype, _HALF_TOLERANCE)
    return bool(((first + second - both).abs() <= tolerance * scale).all())


def _hooked(parameter: nn.Parameter, gradient: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        return torch.autograd.grad(parameter * 1, parameter, gradient)[0]

"""What is done with a gradient: unscaling, clipping, and the optimizer's step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..tensors import whole


class Update:
    """The update of an optimizer's parameters.

    Args:
        optimizer: that makes it.
        clip_norm: the largest norm of the gradient of all parameters together.
        clip_value: the largest absolute value in a gradient, before that.
        scaler: for fp16 only.
        name: of the optimizer, where there are several.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        scaler: torch.amp.GradScaler | None = None,
        name: str = "",
    ) -> None:
        self._optimizer = optimizer
        self._scaler = scaler
        self._largest_norm, self._largest_value = clip_norm, clip_value
        self._clips = clip_norm is not None or clip_value is not None
        self.parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
        self.norm: torch.Tensor | None = None
        """The norm of the last gradient, before it was scaled down; None without ``clip_norm``."""
        self.norm_names: tuple[str, ...] = (
            () if clip_norm is None else (f"grad_norm_{name}" if name else "grad_norm",)
        )

    @property
    def norms(self) -> list[torch.Tensor]:
        """Return the norm of the last gradient, by ``norm_names``."""
        return [] if self.norm is None else [self.norm]

    def apply(self) -> None:
        """Make the update; the scaler's own comes after those of all optimizers."""
        if self._clips:
            self._clip()
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)

    def _clip(self) -> None:
        """Limit the gradient; the same on every rank, for they all have the sum over all of them."""
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        if self._largest_value is not None:
            nn.utils.clip_grad_value_(self.parameters, self._largest_value)
        if self._largest_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.parameters, self._largest_norm)
            # Without any gradient, torch makes its zero on the CPU, in fp32.
            any_gradient = next((p.grad for p in self.parameters if p.grad is not None), None)
            self.norm = self.parameters[0].new_zeros(()) if any_gradient is None else whole(norm)


class JointUpdate:
    """The updates of several optimizers after one gradient.

    Args:
        updates: of different parameters.
    """

    def __init__(self, updates: Sequence[Update]) -> None:
        self._updates = updates
        self.parameters = [parameter for update in updates for parameter in update.parameters]
        self.norm_names = tuple(name for update in updates for name in update.norm_names)

    @property
    def norms(self) -> list[torch.Tensor]:
        """Return the norms of the last gradient, by ``norm_names``."""
        return [norm for update in self._updates for norm in update.norms]

    def apply(self) -> None:
        """Make all updates."""
        for update in self._updates:
            update.apply()

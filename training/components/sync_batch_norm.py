"""Batch norm over the samples of all ranks: what one process would compute of the global batch.

torch's own refuses a processor, and its ranks without samples wait for ever. Here each rank sends the count, the mean
and the squared deviations of its samples, and all combine them in the same order; the gradient's two sums are sent in
the backward pass. A rank without samples takes part with a stand-in that counts nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..rank import Group
from .stand_in import learned_later


class SyncBatchNorm(_BatchNorm):
    """A batch norm that its ranks compute together while it is trained; in evaluation it is torch's.

    Args:
        norm: whose parameters and buffers it has.
        group: the ranks; all of them call it equally often.
    """

    of_all_ranks = True
    """What it computes does not depend on how a batch is cut."""

    def __init__(self, norm: _BatchNorm, group: Group) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=False, track_running_stats=False)
        self.affine, self.track_running_stats = norm.affine, norm.track_running_stats
        self._parameters, self._buffers = norm._parameters, norm._buffers  # noqa: SLF001 - the very same
        self._group = group
        self.training = norm.training

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as torch calls it
        """Normalise; the running statistics learn from the samples of all ranks."""
        if not self.training or self._group.world_size == 1:
            return super().forward(input)
        weight: Any = self.weight
        bias: Any = self.bias
        output, mean, variance, count = _Normalised.apply(
            input, weight, bias, self.eps, self._group, 1 if learned_later.get() is None else 0
        )
        self._learn(mean, variance, count)
        result: torch.Tensor = output
        return result

    def _check_input_dim(self, input: torch.Tensor) -> None:  # noqa: A002
        """Take whatever has channels."""

    @torch.no_grad()
    def _learn(self, mean: torch.Tensor, variance: torch.Tensor, count: torch.Tensor) -> None:
        """Update the running statistics as torch's batch norm does, unless no rank had a sample."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        there, later = count > 0, learned_later.get()
        batches = self.num_batches_tracked + there
        factor = 1.0 / batches.clamp(min=1).to(mean.dtype) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1).clamp(min=1))
        updates = [
            (self.num_batches_tracked, batches),
            (self.running_mean, _blended(self.running_mean, mean, factor, there)),
            (self.running_var, _blended(self.running_var, unbiased, factor, there)),
        ]
        for buffer, value in updates:
            if later is None:
                buffer.copy_(value)
            else:  # its own buffers are put back after the pass: this is everyone's
                later.append(partial(buffer.copy_, value))


def _blended(before: torch.Tensor, new: torch.Tensor, factor: Any, there: torch.Tensor) -> torch.Tensor:
    value = (1 - factor) * before + factor * new.to(before.dtype)
    return torch.where(there, value, before)


class _Normalised(torch.autograd.Function):
    """The normalisation of one rank's samples by the statistics of all."""

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, weight: Any, bias: Any, eps: float, group: Group, counts: int
    ) -> tuple[torch.Tensor, ...]:
        x = values if values.dtype == torch.float64 else values.float()
        over = [axis for axis in range(x.ndim) if axis != 1]
        own = counts * x.numel() // x.shape[1]
        mean = x.mean(over)
        squares = (x - _by_channel(mean, x)).square().sum(over)
        mean, variance, count = _combined(torch.cat([x.new_full((1,), own), mean, squares]), group)
        scale = (variance + eps).rsqrt()
        normal = (x - _by_channel(mean, x)) * _by_channel(scale, x)
        ctx.save_for_backward(normal, weight, scale, count)
        ctx.group, ctx.over, ctx.has_bias, ctx.counts = group, over, bias is not None, counts
        ctx.mark_non_differentiable(mean, variance, count)
        output = normal if weight is None else normal * _by_channel(weight, x)
        output = output if bias is None else output + _by_channel(bias, x)
        return output.to(values.dtype), mean, variance, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> Any:
        normal, weight, scale, count = ctx.saved_tensors
        given = gradient.to(normal.dtype)
        sums = torch.stack([given.sum(ctx.over), (given * normal).sum(ctx.over)])
        own_bias, own_weight = sums.clone()  # DDP adds them up over the ranks
        whole = ctx.group.sum(sums) / count.clamp(min=1)
        inner = given - _by_channel(whole[0], given) - normal * _by_channel(whole[1], given)
        factor = scale if weight is None else scale * weight
        inner = inner * ctx.counts  # a stand-in moves nobody's statistics
        to_input = (inner * _by_channel(factor, given)).to(gradient.dtype)
        to_weight = None if weight is None else own_weight.to(weight.dtype)
        to_bias = own_bias.to(scale.dtype) if ctx.has_bias else None
        return to_input, to_weight, to_bias, None, None, None


def _by_channel(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.reshape(1, -1, *[1] * (like.ndim - 2))


def _combined(own: torch.Tensor, group: Group) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Combine [count, means, squared deviations] of all ranks, to mean, variance and count.

    Where no rank has a sample, as in a pass that only warms up, those of this rank stay.
    """
    rows = group.gather(own)
    rows = torch.where(rows[:, :1].sum() > 0, rows, own)
    channels = (own.numel() - 1) // 2
    counts, means, squares = rows.split([1, channels, channels], dim=1)
    weights = torch.where(counts.sum() > 0, counts, 1)
    total = weights.sum()
    mean = (weights * means).sum(0) / total
    deviations = torch.where(weights > 0, squares + weights * (means - mean).square(), 0)
    return mean, deviations.sum(0) / total, counts.sum()


def synchronised(model: nn.Module, group: Group) -> nn.Module:
    """Put a norm over all ranks in the place of each batch norm with running statistics; names stay as they are."""
    if isinstance(model, _BatchNorm) and not isinstance(model, SyncBatchNorm) and model.track_running_stats:
        return SyncBatchNorm(model, group)
    for name, child in model.named_children():
        new = synchronised(child, group)
        if new is not child:
            setattr(model, name, new)
    return model

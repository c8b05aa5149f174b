"""Clipping, by the numbers of torch's own functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lockstep.training.optim.update import Update

LIMITS: list[dict[str, float]] = [
    {},
    {"clip_norm": 0.3},
    {"clip_norm": 1e9},
    {"clip_value": 0.2},
    {"clip_norm": 0.3, "clip_value": 0.2},
]


def _model() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2)).double()


def _backward(model: nn.Module, scale: float = 1.0) -> None:
    model[:2](torch.ones(2, 3, dtype=torch.float64)).pow(2).sum().mul(10 * scale).backward()  # type: ignore[index]


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("scaled", [False, True])
def test_the_update_is_that_of_torchs_functions(limits: dict[str, Any], *, scaled: bool) -> None:
    ours, theirs = _model(), _model()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) for model in (ours, theirs)]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None
    update = Update(optimizers[0], **limits, scaler=scaler)
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        _backward(ours, 1024.0 if scaled else 1.0)
        _backward(theirs)
        if scaler is not None:
            scaler.scale(torch.ones(()))  # begins it
        norm = nn.utils.get_total_norm([p.grad for p in theirs.parameters() if p.grad is not None])
        if "clip_value" in limits:
            nn.utils.clip_grad_value_(theirs.parameters(), limits["clip_value"])
        if "clip_norm" in limits:
            norm = nn.utils.clip_grad_norm_(theirs.parameters(), limits["clip_norm"])
        update.apply()
        if scaler is not None:
            scaler.update()
        optimizers[1].step()
        assert (update.norm is None) == ("clip_norm" not in limits)
        if update.norm is not None:
            torch.testing.assert_close(update.norm, norm, rtol=1e-15, atol=0)
        for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, yours, rtol=0, atol=1e-15)


def test_the_norm_of_no_gradient_is_zero_in_the_parameters_type() -> None:
    model = _model()
    update = Update(torch.optim.SGD(model.parameters()), clip_norm=1.0)
    update.apply()
    assert update.norm is not None
    assert (update.norm.dtype, float(update.norm)) == (torch.float64, 0.0)

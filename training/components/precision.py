"""The precision that the model computes in: the one place that knows autocast, the scaler and their limits."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal

import torch
from torch import nn
from torch.utils._pytree import tree_map

from ...data.common import MachineError
from ..config import Precision

_FULL = {"fp32": torch.float32, "fp64": torch.float64}


@dataclass(frozen=True)
class MixedPrecision:
    """The precision of a run on its device."""

    name: Literal["fp32", "bf16", "fp16", "fp64"]
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of parameters and inputs; the half types are used under autocast only."""
        return _FULL.get(self.name, torch.float32)

    @property
    def accelerate_name(self) -> Literal["no", "bf16", "fp16"]:
        """Accelerate's name for it. Its fp16 on a CPU silently computes in fp32, so that one is ours."""
        if self.name == "bf16":
            return "bf16"
        return "fp16" if self.name == "fp16" and self.device.type == "cuda" else "no"

    def scaler(self) -> torch.amp.GradScaler | None:
        """Make the gradient scaler, which only fp16 needs."""
        return torch.amp.GradScaler(self.device.type) if self.name == "fp16" else None

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in the half type inside, where the run has one."""
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.name)
        return nullcontext() if half is None else torch.autocast(self.device.type, half)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Convert ``model`` to the right type, with autocast around its forward where Accelerate adds none."""
        model.to(self.device)
        if self.name == "fp64":
            model.double()  # ``to(dtype)`` would make a complex tensor real
        if self.name == "fp16" and self.device.type == "cpu":
            model.forward = _autocast(model.forward, self.device.type)
        return model


def choose_precision(precision: Precision, device: torch.device) -> MixedPrecision:
    """Choose the numerics for ``precision``; ``auto`` is bf16 on GPUs that have it natively, else fp32.

    Raises:
        MachineError: the hardware has no such arithmetic.
    """
    native_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        return MixedPrecision("bf16" if native_bf16 else "fp32", device)
    if precision == "bf16" and device.type == "cuda" and not native_bf16:
        raise MachineError(
            f"train.precision=bf16, but {torch.cuda.get_device_name(device)} has no bf16 arithmetic",
            "use train.precision=fp16 or fp32",
        )
    return MixedPrecision(precision, device)


def _to_fp32(value: Any) -> Any:
    half = isinstance(value, torch.Tensor) and value.dtype == torch.float16
    return value.float() if half else value


def _autocast(forward: Any, device_type: str) -> Any:
    @wraps(forward)
    def casted(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device_type, torch.float16):
            output = forward(*args, **kwargs)
        return tree_map(_to_fp32, output)

    return casted

"""The buffers of a model as they are now, to be put back after a pass that must leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ...data.samples import as_bytes
from ..tensors import materialise_expanded_buffers, plain_name


@dataclass(frozen=True)
class _Kept:
    """One buffer of one module."""

    path: str
    module: nn.Module
    name: str
    buffer: torch.Tensor
    value: torch.Tensor

    @property
    def current(self) -> torch.Tensor | None:
        """What the module has now; None where it was made to fit what came in, as a table that grows is."""
        return None if self.is_reshaped else getattr(self.module, self.name)

    @property
    def is_reshaped(self) -> bool:
        """Whether the module has a tensor of another shape or type by now, or none."""
        now: torch.Tensor | None = getattr(self.module, self.name, None)
        return now is None or (now.shape, now.dtype) != (self.value.shape, self.value.dtype)


class KeptBuffers:
    """The values of all buffers of a model, whatever they are changed by: a write to ``.data`` leaves no other trace.

    Args:
        model: whose buffers are copied.
    """

    def __init__(self, model: nn.Module) -> None:
        materialise_expanded_buffers(model)
        self._unmade = [
            (plain_name(f"{path}.{name}".lstrip(".")), module, name)
            for path, module in model.named_modules()
            for name, buffer in module._buffers.items()  # noqa: SLF001 - torch lists those that are there
            if buffer is None
        ]
        self._kept = [
            _Kept(plain_name(f"{path}.{name}".lstrip(".")), module, name, buffer, buffer.clone())
            for path, module in model.named_modules()
            for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
            if not is_lazy(buffer)
        ]

    def changed(self) -> dict[str, torch.Tensor]:
        """Return copies of the buffers that have other bits than they had."""
        return {
            kept.path: now.clone()
            for kept in self._kept
            if (now := kept.current) is not None and not equals_to_the_bit(kept.value, now)
        }

    def reshaped(self) -> dict[str, torch.Tensor | None]:
        """Return copies of those of another shape or type than they had, or new ones; None of one that is gone."""
        found = {kept.path: getattr(kept.module, kept.name, None) for kept in self._kept if kept.is_reshaped}
        made = {path: getattr(module, name, None) for path, module, name in self._unmade}
        found |= {path: buffer for path, buffer in made.items() if buffer is not None}
        return {path: None if now is None else now.detach().clone() for path, now in found.items()}

    def restore(self) -> None:
        """Put the values back; of 53 batch norms in 1.1 ms, where setting each attribute again took 3.4."""
        with torch.no_grad():
            for kept in self._kept:
                buffer = kept.buffer
                if (buffer.shape, buffer.dtype) != (kept.value.shape, kept.value.dtype):  # resized in place
                    buffer = kept.value.clone()
                if getattr(kept.module, kept.name, None) is not buffer:  # the model has put another one there
                    setattr(kept.module, kept.name, buffer)
                buffer.copy_(kept.value)
        for _, module, name in self._unmade:
            if getattr(module, name, None) is not None:
                setattr(module, name, None)


class KeptParameters:
    """Values of all parameters of a model, and whether they are trained: a pass may change both.

    Args:
        model: whose parameters are copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept = [
            (plain_name(name), parameter, parameter.detach().clone(), parameter.requires_grad)
            for name, parameter in model.named_parameters()
            if not is_lazy(parameter)
        ]

    def changed(self) -> dict[str, torch.Tensor]:
        """Return copies of those that have other bits than they had."""
        return {
            name: parameter.detach().clone()
            for name, parameter, value, _ in self._kept
            if parameter.shape == value.shape and not equals_to_the_bit(value, parameter.detach())
        }

    @property
    def are_switched(self) -> bool:
        """Whether one is trained by now that was not, or the other way round."""
        return any(parameter.requires_grad != is_trained for _, parameter, _, is_trained in self._kept)

    def restore(self) -> None:
        """Put both back."""
        with torch.no_grad():
            for _, parameter, value, is_trained in self._kept:
                parameter.requires_grad_(is_trained)
                if not equals_to_the_bit(value, parameter.detach()):
                    parameter.copy_(value)


def equals_to_the_bit(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Compare values; NaN is itself."""
    return torch.equal(as_bytes(one), as_bytes(other))


@contextmanager
def preserved_buffers(model: nn.Module) -> Iterator[KeptBuffers]:
    """Restore the model's buffers afterwards: what runs inside must not train it."""
    kept = KeptBuffers(model)
    try:
        yield kept
    finally:
        kept.restore()


@contextmanager
def preserved_state(model: nn.Module) -> Iterator[KeptBuffers]:
    """Restore the model's parameters as well as its buffers: a forward pass may write to both."""
    weights = KeptParameters(model)
    try:
        with preserved_buffers(model) as kept:
            yield kept
    finally:
        weights.restore()

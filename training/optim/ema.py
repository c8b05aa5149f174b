"""An exponential moving average of the parameters, which evaluation uses in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from ..config import EmaConfig
from ..tensors import AnyTensor, cut_like, is_sharded, own_parts


class Ema:
    """The average of the trainable parameters; every rank keeps the same one, so nothing is sent.

    Buffers are not averaged: evaluation uses the model's own.

    Args:
        config: the ``train.ema`` section; None keeps no average.
        named: the trainable parameters, one that has two names twice; as they are now, the average starts from them.
    """

    def __init__(self, config: EmaConfig | None, named: list[tuple[str, nn.Parameter]]) -> None:
        self._config = config
        found = named if config is not None else []
        self._parameters = list({id(parameter): parameter for _, parameter in found}.values())
        places = {id(parameter): at for at, parameter in enumerate(self._parameters)}
        self._names = {name: places[id(parameter)] for name, parameter in found}
        self._average = [parameter.detach().clone() for parameter in self._parameters]

    def update(self, step: int) -> None:
        """Include the parameters after ``step`` steps."""
        config = self._config
        if config is None or step % config.every_steps:
            return
        kept = warmed_up_decay(config, step // config.every_steps)
        parameters = [parameter.detach() for parameter in self._parameters]
        torch._foreach_lerp_(own_parts(self._average), own_parts(parameters), 1 - kept)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the average by each name that a parameter has; empty without one."""
        return {name: self._average[at] for name, at in self._names.items()}

    def load(self, saved: Mapping[str, AnyTensor]) -> None:
        """Continue from ``tensors``."""
        for name, average in self.tensors().items():
            average.copy_(cut_like(average, saved[name]))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Compute with the average inside; nothing is copied but where parameters are sharded."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for at, parameter in enumerate(self._parameters):
            if is_sharded(parameter):  # FSDP gathers from the memory that the parameter had
                _exchange(*own_parts([parameter.detach(), self._average[at]]))
            else:
                parameter.data, self._average[at] = self._average[at], parameter.data


def _exchange(one: torch.Tensor, other: torch.Tensor) -> None:
    kept = one.clone()
    one.copy_(other)
    other.copy_(kept)


def warmed_up_decay(config: EmaConfig, updates: int) -> float:
    """Compute how much of the average update number ``updates``, from 1 on, keeps: at most (1 + n) / (10 + n).

    With a constant decay the random start would weigh 0.999^n after n updates: 37 % after a thousand.
    """
    return min(config.decay, (1 + updates) / (10 + updates))

"""Parameters that are trained in a part of the run only: which ones are frozen is a function of the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn


class Span(NamedTuple):
    """The steps in which parameters are trained: from ``until`` on, and before ``after``."""

    until: int
    after: int | None
    parameters: list[nn.Parameter]


class Freezing:
    """The parameters that are frozen in a step: no gradient is computed for them, and no optimizer touches them.

    Args:
        spans: of parameters that are not trained in every step.
    """

    def __init__(self, spans: Sequence[Span] = ()) -> None:
        self._spans = spans
        self._changes = sorted({step for until, after, _ in self._spans for step in (until, after) if step})
        self._valid = range(0)
        self.frozen: list[nn.Parameter] = []

    def set(self, step: int) -> None:
        """Freeze what is frozen in a step, counted from 0 over the run, and nothing else."""
        if not self._spans or step in self._valid:
            return
        begin = max((change for change in self._changes if change <= step), default=0)
        end = min((change for change in self._changes if change > step), default=step + 2**62)
        self._valid = range(begin, end)
        self.frozen = []
        for until, after, parameters in self._spans:
            frozen = step < until or (after is not None and step >= after)
            self.frozen += parameters if frozen else []
            for parameter in parameters:
                parameter.requires_grad = not frozen

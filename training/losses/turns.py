"""Several steps that are taken in turn on the same batch: one at a time in training, all of them elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...data.common import UsageError
from .objective import Objective, Outcome, StepModule, StepObjective


class StepsInTurn(Objective):
    """Several objectives of one model.

    Args:
        steps: in their order.
        names: under which the loss of each is logged.
    """

    def __init__(self, steps: Sequence[StepObjective], names: Sequence[str]) -> None:
        self.steps = list(steps)
        self._names = list(names)
        self.turn: int | None = None
        """The step that is taken; None takes them all, one after the other, as evaluation does."""
        self.running = 0
        """The step that is in its pass."""
        self.term_names: list[tuple[str, ...]] = []
        """Of each step, known after a pass of all."""

    def callable_module(self, model: nn.Module) -> nn.Module:
        """Return a module whose forward is the step whose turn it is, or all of them."""
        return StepModule(model, self._run)

    def _run(self, model: nn.Module, batch: Any) -> Any:
        if self.turn is None:
            return [self._take(at, model, batch) for at in range(len(self.steps))]
        return self._take(self.turn, model, batch)

    def _take(self, at: int, model: nn.Module, batch: Any) -> Any:
        self.running = at
        return self.steps[at].step(model, batch)

    @property
    def parts(self) -> Sequence[int]:
        """Return the steps of a pass."""
        return range(len(self.steps)) if self.turn is None else (self.turn,)

    def inputs(self, batch: Any) -> Any:
        """Return the whole batch."""
        return batch

    def outcome(self, returned: Any, batch: Any) -> Outcome:
        """Take apart what was returned; the loss of all is the first one's."""
        if self.turn is not None:
            return self._outcome(self.turn, returned, batch)
        outcomes = [self._outcome(at, one, batch) for at, one in enumerate(returned)]
        self.term_names = [tuple(outcome.terms) for outcome in outcomes]
        self._refuse_doubled()
        terms = {name: term for outcome in outcomes for name, term in outcome.terms.items()}
        output = next((outcome.output for outcome in outcomes if outcome.output is not None), None)
        loss = outcomes[0].loss
        if torch.is_grad_enabled():  # so that every parameter is reached
            loss = _reaching(loss, [outcome.loss for outcome in outcomes[1:]])
        return Outcome(loss, output, outcomes[0].target, terms)

    def _outcome(self, turn: int, returned: Any, batch: Any) -> Outcome:
        found = self.steps[turn].outcome(returned, batch)
        return Outcome(found.loss, found.output, found.target, {self._names[turn]: found.loss, **found.terms})

    def _refuse_doubled(self) -> None:
        every = [name for names in self.term_names for name in names]
        if doubled := {name for name in every if every.count(name) > 1}:
            raise UsageError(
                f"step: two steps return the term {min(doubled)}", "give each term one name over all steps"
            )


def _reaching(loss: Any, others: list[Any]) -> Any:
    """Return the loss with the graph of the others behind it, and the same value."""
    sums = [(other[0] if isinstance(other, tuple) else other).sum() for other in others]
    nothing = sum(0 * one for one in sums)
    return (loss[0] + nothing, *loss[1:]) if isinstance(loss, tuple) else loss + nothing

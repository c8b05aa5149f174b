"""What is trained: the loss of the model's output, or what the user's step computes. Every pass goes through here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from ...data.common import TrainingError

Loss = Callable[[Any, Any], Any]
"""``(output, target)`` to a tensor [samples], or to (sum, weight)."""
Step = Callable[..., Any]
"""``(model, batch)`` to a loss by the contract, or to a dict of such terms of which ``loss`` is trained."""
_LOSS, _OUTPUT, _TARGET, _LOGITS, _PAIR = "loss", "output", "target", "logits", 2


@dataclass(slots=True)
class Outcome:
    """Results of a pass over a micro-batch."""

    loss: Any
    """By the contract of ``sum_loss``."""
    output: Any
    """What metrics get."""
    target: Any
    """What metrics get besides it: what a step returned, else the target of a pair, else the whole batch."""
    terms: Mapping[str, Any] = field(default_factory=dict)
    """What is logged besides the loss, each by the same contract."""


class Objective(Protocol):
    """A function of the model and a batch, however it is written."""

    def callable_module(self, model: nn.Module) -> nn.Module:
        """Return what is called in a pass, and what DDP wraps."""
        ...

    def inputs(self, batch: Any) -> Any:
        """Return what the module is called with."""
        ...

    def outcome(self, returned: Any, batch: Any) -> Outcome:
        """Return what the module's result amounts to."""
        ...

    def __call__(self, module: nn.Module, batch: Any) -> Outcome:
        """Make a pass: ``module`` is what ``callable_module`` returned, wrapped for training or as it is."""
        return self.outcome(module(self.inputs(batch)), batch)


class LossObjective(Objective):
    """A loss of the model's output and the target: a batch is a pair.

    Args:
        loss: by the contract of ``sum_loss``.
        by_name: inputs are a dict of the model's arguments.
    """

    def __init__(self, loss: Loss, *, by_name: bool = False) -> None:
        self.loss = loss
        self._by_name = by_name

    def callable_module(self, model: nn.Module) -> nn.Module:
        """Return the model itself, or what calls it by name."""
        return StepModule(model, _call_by_name) if self._by_name else model

    def inputs(self, batch: Any) -> Any:
        """Return the inputs of a pair (inputs, targets)."""
        return batch[0]

    def outcome(self, returned: Any, batch: Any) -> Outcome:
        """Compare with the targets."""
        return Outcome(self.loss(returned, batch[1]), returned, batch[1])


class StepObjective(Objective):
    """A user's step: it gets the model and the batch.

    Args:
        step: its arguments bound.
        use: what names it.
    """

    def __init__(self, step: Step, use: str) -> None:
        self.step = step
        self.use = use

    def callable_module(self, model: nn.Module) -> nn.Module:
        """Return a module whose forward is the step."""
        return StepModule(model, self.step)

    def inputs(self, batch: Any) -> Any:
        """Return the whole batch."""
        return batch

    def outcome(self, returned: Any, batch: Any) -> Outcome:
        """Take apart what the step returned.

        Raises:
            TrainingError: a dict without a loss.
        """
        pair = isinstance(batch, list | tuple) and len(batch) == _PAIR
        target = batch[1] if pair else batch
        if not isinstance(returned, Mapping):
            return Outcome(returned, None, target)
        terms = dict(returned)
        if _LOSS not in terms:
            raise TrainingError(
                f"{self.use} returned a dict of {', '.join(map(str, terms)) or 'nothing'}: none of them is the loss",
                'name it: {"loss": reconstruction + kl, "kl": kl}',
            )
        return Outcome(terms.pop(_LOSS), terms.pop(_OUTPUT, None), terms.pop(_TARGET, target), terms)


def _call_by_name(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """Return what the model makes of its arguments; of an output object, as those of transformers, its logits.

    Raises:
        TrainingError: it has computed a loss, too, and nobody knows of how many labels it is the mean.
    """
    output = model(**inputs)
    if isinstance(output, torch.Tensor):
        return output
    found = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    if found.get(_LOSS) is not None:
        raise TrainingError(
            f"{type(model).__name__} returned a loss of its own: a mean over this rank's part of the batch, which is"
            " not that of the global batch",
            "take the labels out of its arguments (data.target names them), or write a step that returns (sum, weight):"
            " out = model(**batch); n = number of labels; return out.loss * n, n",
        )
    logits = found.get(_LOGITS)
    return output if logits is None else logits


class StepModule(nn.Module):
    """A step as DDP sees it: inside of it, the model may be used in any way and any number of times.

    Args:
        model: the bare one, which the step is given.
        step: ``(model, batch)``.
    """

    def __init__(self, model: nn.Module, step: Step) -> None:
        super().__init__()
        self.model = model
        self._step = step
        self.autocast: Callable[[], Any] = nullcontext
        """Around the whole step: the model's own forward is only one of the ways into it."""

    def forward(self, batch: Any) -> Any:
        """Do what the step does."""
        with self.autocast():
            return self._step(self.model, batch)

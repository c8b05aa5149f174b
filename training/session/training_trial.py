"""A first pass in training mode, and what it shows: what it costs, draws, and which buffers learn from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..components import batch_norm
from ..tensors import PlainAttributes, plain_name, plain_state
from .evaluation_draws import EvaluationDraws
from .evaluation_trial import copied, rounding_tolerance
from .first_batch import first_batch
from .kept_buffers import KeptBuffers, equals_to_the_bit, preserved_buffers
from .session import Session

_NAMED = 5  # buffers at most
_ANEW = "a resumed run and `launch eval` begin it anew"


@dataclass(frozen=True)
class TrainingTrial:
    """Findings of a pass that leaves nothing behind."""

    output: Any
    flops: int
    draws: tuple[str, ...]
    """Generators that the model draws from."""
    learning: tuple[str, ...]
    """Buffers that are other ones after other samples."""
    written: frozenset[str] = frozenset()
    """Buffers that a pass writes to."""
    evolving: tuple[str, ...] = ()
    """Plain attributes that are others after the same pass again."""
    is_repeatable: bool = True
    """Whether the same inputs, draws and buffers give the same output."""


def try_training(session: Session, inputs: Any) -> TrainingTrial:
    """Pass the first inputs through a model that is in training mode, and others where its buffers changed."""
    seed, device, model = session.spec.config.train.seed, session.group.device, session.model
    with EvaluationDraws(model, seed, device) as draws, preserved_buffers(model) as kept, torch.no_grad():
        draws.watch()
        untouched = copied(inputs)
        with FlopCounterMode(display=False) as counter:
            output = session.module(inputs)
        drawn, changed = draws.drawn(), kept.changed()
        evolving, is_repeatable = _repeat(session, draws, kept, untouched, output)
        learning = _learning(session, draws, kept, changed) if changed else ()
        return TrainingTrial(
            output,
            counter.get_total_flops(),
            tuple(drawn),
            learning,
            frozenset({*changed, *learning}),
            evolving,
            is_repeatable,
        )


def _repeat(
    session: Session, draws: EvaluationDraws, kept: KeptBuffers, inputs: Any, output: Any
) -> tuple[tuple[str, ...], bool]:
    """Make the same pass again: what differs then, nobody keeps."""
    attributes = PlainAttributes(session.model)
    kept.restore()
    draws.watch()
    again = session.module(inputs)
    tolerance = rounding_tolerance(session)
    pairs = list(zip(tree_leaves(output), tree_leaves(again), strict=False))
    return tuple(attributes.changed()), all(_are_close(*pair, tolerance) for pair in pairs)


def _are_close(one: Any, other: Any, tolerance: float) -> bool:
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor) or one.shape != other.shape:
        return True
    return not one.is_floating_point() or torch.allclose(one, other, tolerance, tolerance, equal_nan=True)


def _learning(
    session: Session, draws: EvaluationDraws, kept: KeptBuffers, changed: dict[str, torch.Tensor]
) -> tuple[str, ...]:
    """Name the buffers that another batch changes to something else: a counter of steps is the same on all ranks."""
    kept.restore()
    draws.watch()
    session.forward(first_batch(session, 1))
    other = kept.changed()
    names = changed.keys() | other.keys()
    both = changed.keys() & other.keys()
    alike = {name for name in both if equals_to_the_bit(changed[name], other[name])}
    return tuple(sorted(names - alike))


def world_size_dependence(model: nn.Module, trial: TrainingTrial) -> list[str]:
    """Name what makes training depend on the number of processes, of a model in training mode."""
    found = batch_norm.world_size_dependent_layers(model)
    if trial.draws and "dropout" not in found:
        found.append("random draws")
    if names := _own_learning_buffers(model, trial):
        more = ", …" if len(names) > _NAMED else ""
        found.append(
            f"buffers that learn from each process's own samples ({', '.join(names[:_NAMED])}{more})"
        )
    return found


def _own_learning_buffers(model: nn.Module, trial: TrainingTrial) -> list[str]:
    norms = tuple(
        plain_name(name) for name, module in model.named_modules() if isinstance(module, _BatchNorm)
    )
    return [name for name in trial.learning if name.rpartition(".")[0] not in norms]


def training_notes(model: nn.Module, trial: TrainingTrial) -> list[str]:
    """Tell of buffers that learn, but that no checkpoint has."""
    saved = plain_state(model)
    lost = [name for name in trial.learning if name not in saved]
    found = _attribute_notes(trial)
    if lost:
        what = (
            f"{', '.join(lost)} learns, but no checkpoint has it: {_ANEW}; register it with persistent=True"
        )
        found.append(f"warning: {what}")
    return found


def _attribute_notes(trial: TrainingTrial) -> list[str]:
    """Tell of what a model keeps in plain attributes, from one pass to the next."""
    names = ", ".join(trial.evolving[:_NAMED]) + (", …" if len(trial.evolving) > _NAMED else "")
    if not trial.is_repeatable:
        what = f" in {names}" if names else ""
        note = (
            f"warning: the model keeps something{what} from one training pass to the next, its output depends on it,"
            f" and no checkpoint has it: {_ANEW}; make it a buffer: self.register_buffer(name, tensor)"
        )
        return [note]
    if names:
        return [f"{names} of the model changes with every training pass, and no checkpoint has it: {_ANEW}"]
    return []

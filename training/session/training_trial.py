"""A first pass in training mode, and what it shows: what it costs, draws, and which buffers learn from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from ..components import batch_norm
from ..tensors import plain_name, plain_state
from .evaluation_draws import EvaluationDraws
from .first_batch import first_batch
from .kept_buffers import KeptBuffers, equals_to_the_bit, preserved_buffers
from .session import Session

_NAMED = 5  # buffers at most


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


def try_training(session: Session, inputs: Any) -> TrainingTrial:
    """Pass the first inputs through a model that is in training mode, and others where its buffers changed."""
    seed, device, model = session.spec.config.train.seed, session.group.device, session.model
    with EvaluationDraws(model, seed, device) as draws, preserved_buffers(model) as kept, torch.no_grad():
        draws.watch()
        with FlopCounterMode(display=False) as counter:
            output = session.module(inputs)
        drawn, changed = draws.drawn(), kept.changed()
        learning = _learning(session, draws, kept, changed) if changed else ()
        written = frozenset({*changed, *learning})
        return TrainingTrial(output, counter.get_total_flops(), tuple(drawn), learning, written)


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
    if not lost:
        return []
    what = f"warning: {', '.join(lost)} learns, but no checkpoint has it: a resumed run and `launch eval` begin it anew"
    return [f"{what}; register it with persistent=True"]

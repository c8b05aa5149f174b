"""``launch check``: what a model does in its two modes: it draws in evaluation, remembers, or loses its mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..components import batch_norm
from ..session import (
    EvaluationDraws,
    KeptBuffers,
    Session,
    copied,
    preserved_state,
    training_mode,
    try_training,
    world_size_dependence,
)
from ..tensors import PlainAttributes
from .finding import Finding
from .model_checks import MODEL_SEEDING_HINT, kept_state
from .tensor_recorder import Recorder, TensorHash, first_difference, module_location


def check_evaluation_mode(model: nn.Module, x: Any, draws: EvaluationDraws) -> tuple[Finding | None, bool]:
    """Check that in evaluation equal samples give equal outputs.

    Args:
        model: any; its mode and buffers are left as they were.
        x: a batch.
        draws: watches this process's generators.

    Returns:
        A finding where they do not, and whether the model draws.
    """
    with training_mode(model, training=False), torch.no_grad(), preserved_state(model) as kept:
        draws.watch()
        one, attributes = _marks(model, x), PlainAttributes(model)
        drawn, changed = draws.drawn(), kept.changed()
        if drawn:
            return _drawing_finding(model, x, draws, kept, one, drawn), True
        if changed:
            what = f"in evaluation, too, it writes to {', '.join(changed)}: each batch finds it as training left it"
            where = module_location(model, "")[1]
            advice = "write to buffers only where self.training is true"
            return Finding("model", "NOTE", what, where, advice), False
        differs = first_difference(one, _marks(model, x))
    if differs is None:
        return None, False
    who, where = module_location(model, differs.name)
    what = f"in evaluation {who} gives another output for the same input and weights{kept_state(attributes)}"
    return Finding("model", "FAIL", what, where, MODEL_SEEDING_HINT), False


def _marks(model: nn.Module, x: Any) -> list[TensorHash]:
    with Recorder(model) as recorder:
        model(copied(x))
    return recorder.marks


def _drawing_finding(
    model: nn.Module,
    x: Any,
    draws: EvaluationDraws,
    kept: KeptBuffers,
    one: list[TensorHash],
    drawn: list[str],
) -> Finding:
    """Name the module whose output another key changes first."""
    kept.restore()
    draws.key(0)
    differs = first_difference(one, _marks(model, x))
    who, where = module_location(model, differs.name if differs else "")
    what = (
        f"in evaluation {who} draws from {' and '.join(drawn)}: the validation set is cut alike for any number of"
        " processes, and each batch has a key of its own"
    )
    return Finding(
        "model", "NOTE", what, where, "draw only where self.training is true, if that is not meant"
    )


@dataclass(frozen=True)
class Modes:
    """Behaviour of a model in training and in evaluation mode."""

    evaluation: Finding | None
    undone: Finding | None
    depends: list[str]
    """What makes training depend on the number of processes."""
    still: str
    """As in ``stilled``; empty where nothing is known, ``nothing`` where no mode is free of draws."""


def compare_modes(session: Session, x: Any, built: list[str], world_size: int) -> Modes:
    """Look at a model in both modes.

    Args:
        session: with the model.
        x: a batch.
        built: ``modules_in_evaluation_mode`` when it was built.
        world_size: processes that will train it, or logical ranks.

    Raises:
        UsageError: some rank's micro-batch would be one sample, under batch norm.
    """
    config, model = session.spec.config, session.model
    with training_mode(model, training=True):
        trial = try_training(session, x)
        undone = check_kept_modes(model, built)
        # Draws are what `randomness` tells of.
        depends = [what for what in world_size_dependence(model, trial) if what != "random draws"]
        depends = [] if config.train.logical_ranks else depends
        limit = config.data.micro_limit
        batch_norm.refuse_single_sample_batches(model, session.batches, world_size, limit)
    with EvaluationDraws(model, config.train.seed, session.group.device) as draws:
        evaluation, drawing = check_evaluation_mode(session.module, x, draws)
    learning = set(depends) - {"batch norm", "dropout"}
    return Modes(evaluation, undone, depends, "nothing" if drawing else "all" if learning else "")


def modules_in_evaluation_mode(model: nn.Module) -> list[str]:
    """Name the outermost modules that are in evaluation mode though the whole is not."""
    found: list[str] = []
    for name, module in model.named_modules() if model.training else ():
        if not module.training and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
    return found


def check_kept_modes(model: nn.Module, built: list[str]) -> Finding | None:
    """Point out what was put into evaluation mode when it was built, of a model in training mode after a pass."""
    undone = [name for name in built if model.get_submodule(name).training]
    if not undone:
        return None
    said = ", ".join(module_location(model, name)[0] for name in undone)
    what = (
        f"{said} was put into evaluation mode when it was built, but train() before every epoch undoes that"
    )
    how = f"def train(self, mode=True): super().train(mode); self.{undone[0]}.eval(); return self"
    return Finding("mode", "NOTE", what, module_location(model, "")[1], f"if it is to stay frozen: {how}")

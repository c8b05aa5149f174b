"""A run's model alone, with its trained weights: for a user's own code."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ...data.common import DamagedError, UsageError
from ..checkpoint import StoredCheckpoint, load_weights, open_newest
from ..components import build_model, fit_head
from ..config import read_spec
from ..session import Session, add_autocast, materialise_lazy_modules
from ..tensors import plain_state


def load_trained_model(folder: Path, step: int | None) -> nn.Module:
    """Build the model of a run, on the processor and in evaluation mode; torch's generator is left as it was.

    Args:
        folder: of the run.
        step: of the checkpoint; None is the newest whole one.

    Raises:
        UsageError: the checkpoint is of another model, or this one makes its tensors only in its first pass.
    """
    spec = read_spec(folder / "spec.json")
    path, snapshot, _ = open_newest(folder / "checkpoints", step)
    with torch.random.fork_rng(devices=[]):
        model = build_model(spec.config.model, spec.facts, spec.base)
        fit_head(model, spec.config.model, spec.facts)
    if any(torch.nn.parameter.is_lazy(tensor) for tensor in plain_state(model).values()):
        raise UsageError(
            f"{spec.run}: its model makes its tensors in its first forward pass",
            f"make that pass yourself, then load {path / 'model.safetensors'}",
        )
    model = model.double() if spec.config.train.precision == "fp64" else model
    load_weights(model, snapshot.weights, f"{spec.run} {path.name}", exact=False)
    return model.eval()


def load_session_weights(
    session: Session, folder: Path, step: int | None, *, average: bool = True
) -> tuple[Path, StoredCheckpoint, list[DamagedError]]:
    """Put a checkpoint's weights into the model of a session, in the run's precision.

    Args:
        session: of the run.
        folder: of the run.
        step: of the checkpoint; None is the newest whole one.
        average: where the run keeps an average of its weights, take that, as evaluation does.

    Returns:
        The checkpoint's path and contents, and the damaged ones that were passed over.
    """
    path, snapshot, damaged = open_newest(folder / "checkpoints", step)
    put_weights(session, snapshot, path, average=average)
    add_autocast(session)
    return path, snapshot, damaged


def put_weights(session: Session, snapshot: StoredCheckpoint, path: Path, *, average: bool) -> None:
    """Put the weights of an opened checkpoint into the model; arguments as of ``load_session_weights``."""
    weights = snapshot.weights if average else snapshot.model
    materialise_lazy_modules(session, weights)
    load_weights(session.model, weights, f"{session.spec.run} {path.name}", exact=False)

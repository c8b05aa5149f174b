"""A checkpoint of what was built for training: its tensors and its state, brought together and handed to the writer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..components import batch_norm
from ..session import Training
from . import rank_buffers
from .background_writer import CheckpointWriter
from .non_finite import refuse_non_finite
from .state import checkpoint_tensors
from .storage import Tensors


def save(
    training: Training,
    step: int,
    writer: CheckpointWriter,
    best: set[int],
    state: Callable[[], dict[str, Any]],
    hook_tensors: Tensors,
) -> None:
    """Have a checkpoint written. Collective.

    Args:
        training: to be saved.
        step: of the run, after so many.
        writer: writes it.
        best: steps whose checkpoints stay when older ones go.
        state: builds the state, on rank 0.
        hook_tensors: of what hooks have returned.

    Raises:
        TrainingError: a weight is not a number.
    """
    session = training.session
    refuse_non_finite(session, step)
    gathered_buffers = rank_buffers.gathered(session.model, session.buffer_group)
    with batch_norm.averaged(session.model, session.buffer_group):
        snapshot = checkpoint_tensors(training, step, sharded=writer.is_shared)
        if session.group.rank == 0:
            snapshot = replace(snapshot, state=state(), rank_buffers=gathered_buffers, hooks=hook_tensors)
        if session.group.rank == 0 or writer.is_shared:
            writer.write(snapshot, best)

"""A run's model alone, with its trained weights: for a user's own code."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ...data.common import UsageError
from ..checkpoint import checkpoints_folder, load_weights, open_newest, tensor_file
from ..components import build_model, fit_head
from ..config import read_spec
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
    path, snapshot, _ = open_newest(checkpoints_folder(folder), step)
    with torch.random.fork_rng(devices=[]):
        model = build_model(spec.config.model, spec.facts, spec.base)
        fit_head(model, spec.config.model, spec.facts)
    if any(torch.nn.parameter.is_lazy(tensor) for tensor in plain_state(model).values()):
        raise UsageError(
            f"{spec.run}: its model makes its tensors in its first forward pass",
            f"make that pass yourself, then load {path / tensor_file('model')}",
        )
    model = model.double() if spec.config.train.precision == "fp64" else model
    load_weights(model, snapshot.weights, f"{spec.run} {path.name}", exact=False)
    return model.eval()

"""``launch check``: do the hooks run, and is the model after each of them what it was, to the bit?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...data.common import LockstepError
from ...data.loading import Work
from ..checkpoint import Progress
from ..config import HOOK_POINTS
from ..loop import build_hooks
from ..session import Training, equals_to_the_bit
from ..tracking import EventLog
from .finding import Finding

_SAMPLES = 2  # one alone has no variance
_VALUE = 0.5  # of every metric that they may ask for
_ADVICE = "only read the model, and call it inside `with state.evaluating():`"


def check_hooks(training: Training) -> Finding:
    """Call each hook once after a step of two samples.

    Args:
        training: of a run with hooks, which is trained by a step here.
    """
    _take_a_step(training)
    session = training.session
    metrics = {name: _VALUE for name in ("train/loss", *session.logged_names) if not name.endswith("/")}
    progress = Progress(epoch=1, step=1, metrics=metrics)
    called = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            hooks = build_hooks(session, EventLog(None), Path(folder), progress)
            for point in HOOK_POINTS:
                use, before = hooks.use_of(point), _copies(session.model)
                if not use:
                    continue
                called.append(point)
                hooks.call(point, metrics)
                if name := _changed(session.model, before):
                    return Finding("hooks", "FAIL", f"hooks.{point} = {use} changed {name}", "", _ADVICE)
            hooks.write_step(progress.step, {})
            hooks.state()  # what they return can be kept in a checkpoint
        except LockstepError as error:
            what, _, where = error.message.partition("\nat ")
            return Finding("hooks", "FAIL", what, where, error.hint)
    return Finding("hooks", "PASS", f"{', '.join(called)}: the model is as it was before each of them")


def _take_a_step(training: Training) -> None:
    """Take a step: hooks may look at gradients and at what the optimizer keeps."""
    session = training.session
    session.model.train()
    rows = np.resize(np.arange(min(_SAMPLES, session.batches.n), dtype=np.int64), _SAMPLES)
    batch = next(session.train_feed.fetch(iter([Work(rows, [_SAMPLES])])))
    training.begin_step(0)
    training.stepper.run(batch, _SAMPLES, _SAMPLES)


def _copies(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in _named(model)}


def _named(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _changed(model: nn.Module, before: dict[str, torch.Tensor]) -> str:
    """Name the first tensor with other bits than it had; a write to ``.data`` leaves no other trace."""
    now = dict(_named(model))
    if before.keys() != now.keys():
        return f"which tensors the model has: {min(before.keys() ^ now.keys())}"
    alike = (
        (name, tensor.shape == now[name].shape and equals_to_the_bit(tensor, now[name].detach()))
        for name, tensor in before.items()
    )
    return next((name for name, same in alike if not same), "")

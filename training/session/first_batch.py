"""The first samples of a run, and a pass over them where a model makes its tensors only then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from ...data.loading import Work
from ...data.order import EpochOrder
from ..tensors import plain_state
from .kept_buffers import preserved_buffers
from .session import Session

FIRST_BATCH_SAMPLES = 2
"""Samples that the contract is checked on."""


def first_batch(session: Session, number: int = 0) -> Any:
    """Return a batch of two samples of epoch 0, the same on every rank: one alone would broadcast over anything.

    Args:
        session: with the data.
        number: 0 for the first two, 1 for the next, as far as there are others.
    """
    n, stop = session.batches.n, FIRST_BATCH_SAMPLES * (number + 1)
    whole = EpochOrder(session.order, session.spec.config.train.seed, 0).indices(0, min(n, stop))
    indices = np.resize(whole, stop)[-FIRST_BATCH_SAMPLES:]
    return next(session.train_feed.fetch(iter([Work(indices, [indices.size])]))).micro[0]


def materialise_lazy_modules(session: Session, saved: Mapping[str, Any]) -> None:
    """Have a model create what it creates in its first forward pass, as lazy layers do, so that it can take ``saved``.

    A pass is made only where the model's tensors are not those of ``saved``: others have nothing to learn from it.
    """
    own = plain_state(session.model)
    if own.keys() == saved.keys() and not any(map(is_lazy, own.values())):
        return
    batch = first_batch(session)
    session.model.train()
    with preserved_buffers(session.model), torch.no_grad():
        session.forward(batch)

"""How a run calls its model, recorded on real samples: what an exported model takes, and what it has to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from ...data.common import UsageError
from ...data.loading import Work
from ...data.order import permute
from ..session import Session, evaluation_mode

_SIZES = (8, 5, 1)
"""Of the batches: the first is exported, the second says which sizes are free, the third is one sample alone."""
_DRAWN = 2**63 + 5  # no epoch's order: key of the samples that are drawn


@dataclass(frozen=True)
class ModelCall:
    """A call of the model, and its answer."""

    samples: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: list[torch.Tensor]
    """The tensors of what it returned, in order."""

    def saved(self) -> dict[str, Any]:
        """Return what another process needs to make the call and to judge the answer."""
        return {"args": self.args, "kwargs": self.kwargs, "answer": self.answer}

    def described(self) -> list[dict[str, Any]]:
        """Describe the tensors that it is called with; a size that is the batch's is called so."""
        return [
            {
                "name": pytree.keystr(path),
                "dtype": str(leaf.dtype).removeprefix("torch."),
                "shape": [
                    "batch" if size == self.samples and not axis else size
                    for axis, size in enumerate(leaf.shape)
                ],
            }
            for path, leaf in pytree.tree_flatten_with_path((*self.args, self.kwargs))[0]
            if isinstance(leaf, torch.Tensor)
        ]


def record_calls(session: Session, split: str) -> list[ModelCall]:
    """Evaluate a few batches of a split and record the first call of the model in each, and its answer.

    Args:
        session: with the trained weights.
        split: whose samples are drawn, by the run's seed.

    Raises:
        UsageError: a step calls parts of the model, never the whole of it.
    """
    feed = session.train_feed if split == "train" else session.val_feeds[split]
    length = session.split_length(split)
    sizes = list(dict.fromkeys(min(size, length) for size in _SIZES))
    drawn = permute(
        np.arange(min(_SIZES[0], length), dtype=np.int64), length, (session.spec.config.train.seed, _DRAWN)
    )
    calls = []
    with evaluation_mode(session):
        for batch in feed.fetch(iter([Work(drawn[:size], [size]) for size in sizes])):
            args, kwargs = _first_call(session, batch.micro[0])
            answer = session.model(*_copied(args), **_copied(kwargs))
            calls.append(ModelCall(len(batch.indices), args, kwargs, tensors_of(answer)))
    return calls


def _first_call(session: Session, micro: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def keep(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not found:
            found.append((_copied(args), _copied(kwargs)))

    handle = session.model.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        session.objective(session.module, micro)
    finally:
        handle.remove()
    if not found:
        raise UsageError(
            f"{session.spec.run}: its step never calls the whole of {type(session.model).__name__}",
            "--format safetensors exports the weights alone",
        )
    return found[0]


def _copied(tree: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, tree)


def tensors_of(tree: Any) -> list[torch.Tensor]:
    """Return the tensors of nested values, in order."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

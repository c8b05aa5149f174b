"""What hooks return, of every rank, as a part of the checkpoint: plain values of JSON, and tensors beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load, save

from ...data.common import TrainingError
from ..rank import Group

Tensors = dict[str, torch.Tensor]
_TENSOR = "__tensor__"


def gather_saved(saved: Mapping[str, Any], group: Group) -> tuple[dict[str, Any], Tensors]:
    """Gather what the hooks of every rank have returned. Collective.

    Args:
        saved: of this rank, by the hooks' file.
        group: the ranks.

    Returns:
        For ``state.json``, and the tensors that it names.

    Raises:
        TrainingError: there is something in it that a checkpoint cannot hold.
    """
    tensors: Tensors = {}
    own = {file: _plain(file, value, tensors) for file, value in saved.items()}
    trees = group.gather_bytes(json.dumps(own).encode())
    parts = group.gather_bytes(save(tensors))
    everyone = {f"{rank}.{name}": one for rank, part in enumerate(parts) for name, one in load(part).items()}
    return {"ranks": [json.loads(tree) for tree in trees]}, everyone


def own_saved(
    state: Mapping[str, Any] | None, tensors: Tensors, group: Group
) -> tuple[dict[str, Any], list[str]]:
    """Return what this rank's hooks had returned at a checkpoint, and what users should know.

    On another number of ranks, all have what rank 0 had.
    """
    if state is None:
        return {}, []
    trees: list[Any] = state["ranks"]
    same = len(trees) == group.world_size
    rank = group.rank if same else 0
    found = {
        file: _value(tree, {name: one.to(group.device) for name, one in tensors.items()}, rank)
        for file, tree in trees[rank].items()
    }
    lost = not same and bool(found)
    note = "each process's hooks had returned values of their own: from here on all have rank 0's"
    return found, [note] if lost and len(trees) > 1 else []


def _plain(where: str, value: Any, tensors: Tensors) -> Any:
    """Copy a tree of plain values; its tensors move to ``tensors``."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(where, one, tensors) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(where, one, tensors) for one in value]
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise TrainingError(
        f"hooks: what a hook of {where} returned holds {type(value).__name__}, which no checkpoint holds",
        "return dicts with names as keys, lists, numbers, strings and tensors",
    )


def _value(tree: Any, tensors: Tensors, rank: int) -> Any:
    if isinstance(tree, dict):
        if tree.keys() == {_TENSOR}:
            return tensors[f"{rank}.{tree[_TENSOR]}"]
        return {key: _value(one, tensors, rank) for key, one in tree.items()}
    return [_value(one, tensors, rank) for one in tree] if isinstance(tree, list) else tree

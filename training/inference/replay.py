"""Replays one micro-batch of a training step in a short-lived child process: its samples, and the loss of each.

Reads one JSON document on stdin and answers with one on stdout.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils import _pytree as pytree

from ...data.common import LockstepError
from ...data.loading import StepBatch
from ..checkpoint import (
    checkpoints_folder,
    list_checkpoints,
    load_frozen_weights,
    load_initial_weights,
    load_weights,
    open_newest,
    rank_buffers,
    read_all,
    step_of,
)
from ..config import RunSpec, read_spec
from ..rank import GatherTrial, Group, gathering
from ..session import Session, StepSeeder, build_session, materialise_lazy_modules, preserved_buffers
from ..tensors import find_renaming, plain_state, renamed
from ..tracking import plain
from .child import answer_with, writing

_CPU = torch.device("cpu")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ReplayRequest:
    """A step of a run, as the launcher asks for it."""

    folder: Path
    """Of the run."""
    step: int
    """Counted from 1: the one after which the record gives these numbers."""
    ranks: tuple[int, ...]
    world_size: int
    """Of the attempt that took the step."""
    data: dict[str, Any]
    """Keys of the ``data:`` section that were others in that attempt."""
    out: Path | None
    """A safetensors file for what the model and the loss get."""


def replay(request: ReplayRequest) -> dict[str, Any]:
    """Return the samples of a step and their losses; nothing is trained.

    Raises:
        UsageError: the run has no such step.
    """
    spec = _spec_of_attempt(request)
    session = build_session(spec, Group(0, 0, 1, _CPU), splits=())
    per_epoch = session.batches.steps
    epoch, first = divmod(request.step - 1, per_epoch)
    load_frozen_weights(session)
    used, buffers = _load_weights_before(session, request)
    rows: list[dict[str, Any]] = []
    tensors: Tensors | None = None if request.out is None else {}
    with gathering(gather := GatherTrial()):
        for rank in request.ranks:
            of_rank = replace(session, group=Group(rank, rank, request.world_size, _CPU))
            batch = next(iter(session.train_feed.fetch(iter([next(of_rank.train_work(epoch, first))]))))
            if not batch.work.stand_in:
                with preserved_buffers(session.model):  # each rank begins with its own
                    rank_buffers.restore(session.model, buffers, of_rank.group)
                    rows += _replayed(session, batch, request.step - 1, rank, tensors)
    if request.out is not None and tensors is not None:
        with writing(request.out):
            save_file(tensors, request.out, metadata={"run": spec.run, "step": str(request.step)})
    mixed = request.world_size > 1 and (gather.used or spec.config.model.sync_batch_norm)
    return {
        "epoch": epoch + 1,
        "step_of_epoch": first + 1,
        "weights_step": used,
        "mixes_ranks": mixed,
        "exact": used == request.step - 1 and not mixed,
        "samples": rows,
    }


def _spec_of_attempt(request: ReplayRequest) -> RunSpec:
    """Read the spec; a later attempt may have cut batches otherwise."""
    spec = read_spec(request.folder / "spec.json")
    data = spec.config.data.model_copy(update=request.data)
    return replace(spec, config=spec.config.model_copy(update={"data": data}))


def _load_weights_before(session: Session, request: ReplayRequest) -> tuple[int, Tensors]:
    """Load the newest weights that the step may have begun with.

    Returns:
        After how many steps they are, and the buffers of each rank.
    """
    folder = checkpoints_folder(request.folder)
    known = [step for path in list_checkpoints(folder) if (step := step_of(path)) < request.step]
    for step in sorted(known, reverse=True):
        with suppress(LockstepError):
            path, snapshot, _ = open_newest(folder, step)
            materialise_lazy_modules(session, snapshot.model)
            load_weights(session.model, snapshot.model, f"{session.spec.run} {path.name}", exact=False)
            renaming = find_renaming(snapshot.model, plain_state(session.model))
            return step, renamed(read_all(snapshot.rank_buffers), renaming)
    load_initial_weights(session, session.spec.weights)
    return 0, {}


def _replayed(
    session: Session, batch: StepBatch, step: int, rank: int, tensors: Tensors | None
) -> list[dict[str, Any]]:
    """Make the forward passes of a rank's micro-batches as training makes them; keep what they got."""
    session.model.train()
    StepSeeder(session.spec.config.train.seed, rank, _CPU).reseed(step)
    rows: list[dict[str, Any]] = []
    at = 0
    for number, (micro, size) in enumerate(zip(batch.micro, batch.work.micro, strict=True)):
        with torch.no_grad():
            loss = session.objective(session.module, micro).loss
        alone = isinstance(loss, torch.Tensor) and loss.shape == (size,)
        for place in range(size):
            index = int(batch.indices[at + place])
            value = plain(float(loss[place])) if alone else None
            rows.append({"rank": rank, "micro_batch": number, "index": index, "loss": value})
        if tensors is not None:
            own = batch.indices[at : at + size]
            tensors |= _tensors_of(micro, f"rank{rank}.micro{number}") | {
                f"rank{rank}.micro{number}.index": torch.from_numpy(own.copy())
            }
        at += size
    return rows


def _tensors_of(micro: Any, name: str) -> Tensors:
    return {
        f"{name}{pytree.keystr(path)}": leaf.detach().clone().contiguous()
        for path, leaf in pytree.tree_flatten_with_path(micro)[0]
        if isinstance(leaf, torch.Tensor)
    }


def main() -> None:
    """Answer the request on stdin."""
    asked = json.load(sys.stdin)
    out = None if asked["out"] is None else Path(asked["out"])
    paths = {"folder": Path(asked["folder"]), "ranks": tuple(asked["ranks"]), "out": out}
    request = ReplayRequest(**{**asked, **paths})
    answer_with(lambda: replay(request))


if __name__ == "__main__":
    main()

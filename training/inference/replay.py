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

from ...data.common import LockstepError, UsageError, answer_parent
from ...data.loading import StepBatch
from ..checkpoint import (
    list_checkpoints,
    load_frozen_weights,
    load_initial_weights,
    load_weights,
    open_newest,
    step_of,
)
from ..config import read_spec
from ..rank import Group
from ..session import Session, StepSeeder, build_session, materialise_lazy_modules

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class ReplayRequest:
    """A step of a run, as the launcher asks for it."""

    folder: Path
    """Of the run."""
    step: int
    """Counted from 1: the one after which the record says so many."""
    ranks: tuple[int, ...]
    world_size: int
    """Of the attempt that took the step."""
    out: Path | None
    """A safetensors file for what the model and the loss get."""


def replay(request: ReplayRequest) -> dict[str, Any]:
    """Return the samples of a step and their losses; nothing is trained.

    Raises:
        UsageError: the run has no such step.
    """
    spec = read_spec(request.folder / "spec.json")
    session = build_session(spec, Group(0, 0, 1, _CPU), splits=())
    per_epoch = session.batches.steps
    epoch, first = divmod(request.step - 1, per_epoch)
    load_frozen_weights(session)
    used = _load_weights_before(session, request)
    rows: list[dict[str, Any]] = []
    tensors: dict[str, torch.Tensor] = {}
    for rank in request.ranks:
        of_rank = replace(session, group=Group(rank, rank, request.world_size, _CPU))
        batch = next(iter(session.train_feed.fetch(iter([next(of_rank.train_work(epoch, first))]))))
        if not batch.work.stand_in:
            rows += _replayed(session, batch, request.step - 1, rank, tensors)
    if request.out is not None:
        save_file(tensors, request.out, metadata={"run": spec.run, "step": str(request.step)})
    return {
        "epoch": epoch + 1,
        "step_of_epoch": first + 1,
        "weights_step": used,
        "exact": used == request.step - 1,
        "samples": rows,
    }


def _load_weights_before(session: Session, request: ReplayRequest) -> int:
    """Load the newest weights that the step may have begun with; return after how many steps they are."""
    folder = request.folder / "checkpoints"
    known = [step for path in list_checkpoints(folder) if (step := step_of(path)) < request.step]
    for step in sorted(known, reverse=True):
        with suppress(LockstepError):
            path, snapshot, _ = open_newest(folder, step)
            materialise_lazy_modules(session, snapshot.model)
            load_weights(session.model, snapshot.model, f"{session.spec.run} {path.name}", exact=False)
            return step
    load_initial_weights(session, session.spec.weights)
    return 0


def _replayed(
    session: Session, batch: StepBatch, step: int, rank: int, tensors: dict[str, torch.Tensor]
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
            value = _plain(float(loss[place])) if alone else None
            rows.append({"rank": rank, "micro_batch": number, "index": index, "loss": value})
        for path, leaf in pytree.tree_flatten_with_path(micro)[0]:
            if isinstance(leaf, torch.Tensor):
                tensors[f"rank{rank}.micro{number}{pytree.keystr(path)}"] = leaf.detach().clone().contiguous()
        tensors[f"rank{rank}.micro{number}.index"] = torch.from_numpy(batch.indices[at : at + size].copy())
        at += size
    return rows


def _plain(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None  # noqa: PLR0124 - NaN


def main() -> None:
    """Answer the request on stdin."""
    asked = json.load(sys.stdin)
    out = None if asked["out"] is None else Path(asked["out"])
    paths = {"folder": Path(asked["folder"]), "ranks": tuple(asked["ranks"]), "out": out}
    response: dict[str, Any]
    try:
        response = replay(ReplayRequest(**{**asked, **paths}))
    except LockstepError as error:
        response = {"error": error.to_json()}
    except OSError as error:
        response = {"error": UsageError(f"{out}: {error}", "name a file in a folder of yours").to_json()}
    answer_parent(response)


if __name__ == "__main__":
    main()

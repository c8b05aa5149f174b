"""What a trained model says of each input: batches of one cut, whatever the number of processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data.common import TrainingError, UsageError
from ...data.inputs import InputRows, find_inputs
from ...data.loading import Feed, Work
from ...data.order import shard
from ..config import RunSpec
from ..losses import needs_classes
from ..session import Session, evaluation_mode

_BATCH = 64
"""Inputs of a batch at most: not the number of processes decides which are together."""


@dataclass(frozen=True)
class PredictionRequest:
    """A question, as the launcher writes it into a file."""

    sources: tuple[str, ...]
    """Paths of inputs."""
    split: str | None
    """Of the data set, in place of ``sources``."""
    step: int | None
    """Of the checkpoint; None is the newest."""
    resize: bool
    raw: bool
    """The model's output, where classes could be said."""


def open_inputs(spec: RunSpec, request: PredictionRequest) -> InputRows | None:
    """Find the inputs that are asked about; None where that is a split of the data set.

    Raises:
        UsageError: there are none, or a step alone knows what to call the model with.
    """
    if request.split is not None:
        return None
    if spec.config.steps:
        raise UsageError(
            f"{spec.run} is trained by a step ({spec.config.steps[0].use}), which alone knows what to call its model"
            " with",
            "predict on a split of the data set (--split val), or use lockstep.load_model in Python",
        )
    rows = find_inputs(request.sources, spec.facts, spec.config.data, resize=request.resize)
    if not len(rows):
        raise UsageError("there is no input", "the files hold no row")
    return rows


def predict(
    session: Session,
    rows: InputRows | None,
    request: PredictionRequest,
    part: Path,
    touch: Callable[[], None] = lambda: None,
) -> None:
    """Write what the model says of this rank's inputs, one JSON document a line.

    Args:
        session: with the trained model; its training set is the inputs, where there are some.
        rows: the inputs; None is a split.
        request: what is asked.
        part: the file that is written.
        touch: called for each batch, as a sign of life.
    """
    torch.set_num_threads(
        1
    )  # sums of several threads have other last bits, and ranks have fewer the more they are
    if request.split is not None:
        feed, length, names = session.val_feeds[request.split], session.split_length(request.split), None
    else:
        feed, names = session.train_feed, rows.names if rows else []
        length = len(names)
    with part.open("w", encoding="utf-8") as file:
        for row, said in _predictions(session, feed, length, request, touch):
            name = names[row] if names is not None else f"{request.split}:{row}"
            file.write(json.dumps({"input": name, **said}) + "\n")


def _predictions(
    session: Session, feed: Feed, length: int, request: PredictionRequest, touch: Callable[[], None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield this rank's rows, each with its prediction."""
    classes = not request.raw and _says_classes(session)
    with evaluation_mode(session) as (draws, kept):
        for batch in feed.fetch(_work(session, length)):
            touch()
            kept.restore()
            draws.key(batch.work.start)
            for micro in batch.micro:
                if request.split is None:
                    output, target = session.module(session.objective.inputs(micro)), None
                else:
                    outcome = session.objective(session.module, micro)
                    output, target = outcome.output, outcome.target
                said = _described(session, output, target, classes=classes)
                yield from zip(batch.indices.tolist(), said, strict=True)


def _work(session: Session, length: int) -> Iterator[Work]:
    """Yield this rank's batches of a cut that is the same for any number of processes."""
    count = -(-length // _BATCH)
    for batch in range(*shard(0, count, session.group.rank, session.group.world_size)):
        start, stop = shard(0, length, batch, count)
        yield Work(np.arange(start, stop, dtype=np.int64), [stop - start], 0, start)


def _says_classes(session: Session) -> bool:
    loss = session.spec.config.trained_loss
    return loss is not None and needs_classes(loss)


def _described(session: Session, output: Any, target: Any, *, classes: bool) -> Iterator[dict[str, Any]]:
    """Yield of each sample what the model says, and what is true where that is one number."""
    if not isinstance(output, torch.Tensor):
        raise TrainingError(
            f"the model returned {type(output).__name__}, not a tensor",
            'a step says what it predicts with {"loss": …, "output": …}',
        )
    known = isinstance(target, torch.Tensor) and target.shape == output.shape[:1]
    values = output.double().cpu()
    for row, value in enumerate(values):
        is_scores = classes and value.ndim == 1
        said: dict[str, Any] = _class_of(session, value) if is_scores else {"output": value.tolist()}
        if known:
            true = target[row].item()
            said["target"] = _named(session, true) if "class" in said else true
        yield said


def _class_of(session: Session, scores: torch.Tensor) -> dict[str, Any]:
    shares = scores.softmax(0)
    best = int(shares.argmax())
    return {"class": _named(session, best), "probability": float(shares[best])}


def _named(session: Session, index: int) -> str | int:
    names = session.spec.facts.class_names
    return names[index] if names and 0 <= index < len(names) else index

"""Evaluation: every validation sample once, sums in float64, one reduction at the end.

It is a function of the weights. A model may draw, mix the samples of a batch, or write to its buffers: then the
validation set is cut alike for any number of processes, and each batch has the same buffers and a key of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ...data.common import DamagedError
from ...data.loading import Work
from ...data.order import Indices
from ..components import shared_buffers
from ..logical import LogicalRowSums, RowSums
from ..metrics import WorstSamples, all_numbers, confusion_view
from ..parallel import EqualPasses, given_back
from ..rank import IN_EVALUATION
from ..session import EvaluationDraws, KeptBuffers, Session, evaluate_batch, evaluation_mode, try_evaluation

Views = dict[str, dict[str, Any]]
"""What is kept of an evaluation besides its numbers: by split, the confusion matrix and the worst samples."""


def evaluate(
    session: Session,
    abandon: Callable[[], bool] = lambda: False,
    views: Views | None = None,
    batches: int | None = None,
) -> dict[str, float] | None:
    """Compute ``val/loss``, ``val/NAME`` for each metric and ``val/count``, the same on every rank.

    Of a data set with more validation sets also ``val_…/loss`` and so on.

    Collective: every rank calls it. The model and the generators are left as they were.

    Args:
        session: with the model to evaluate.
        abandon: asked between batches; ranks need not hear the same at the same time.
        views: takes what is kept for views.
        batches: of the global size, at most, of each split; the same samples for any number of processes.

    Returns:
        None on every rank where any of them has abandoned it.

    Raises:
        DamagedError: the samples that were evaluated are not as many as the split has.
    """
    try:
        return _evaluate_splits(session, abandon, views, batches)
    except torch.OutOfMemoryError as error:
        error.add_note(IN_EVALUATION)
        raise


def _evaluate_splits(
    session: Session, abandon: Callable[[], bool], views: Views | None, batches: int | None
) -> dict[str, float] | None:
    found: dict[str, float] = {}
    for split in session.val_feeds:
        with (
            given_back(session.module),
            shared_buffers(session.model, session.buffer_group),
            evaluation_mode(session) as (draws, kept),
        ):
            trial = try_evaluation(session, draws, kept, split)
            logical = session.spec.config.train.logical_ranks is not None
            fixed = logical or _any_rank(session, depends=trial.depends_on_cut)
            chosen = session.chosen_samples(split, batches)
            values = _sums(session, abandon, _Pass(draws, kept, fixed, split, chosen))
            if values is None:
                return None
            draws.watch()
            length = session.split_length(split) if chosen is None else chosen.size
            numbers, view = _finished(session, split, values, length)
        found |= numbers
        if views is not None:
            views[split] = view
    return found


def _any_rank(session: Session, *, depends: bool) -> bool:
    """Ask all ranks: on other devices, or of samples that differ each time, they may have seen something else."""
    seen = torch.tensor(float(depends), dtype=torch.float64, device=session.group.device)
    return bool(session.group.sum(seen))


@dataclass(frozen=True)
class _Pass:
    """A pass over a validation set, inside ``evaluation_mode``."""

    draws: EvaluationDraws
    kept: KeptBuffers
    fixed: bool
    """Whether the cut is the same for any number of processes, and no batch knows of another."""
    split: str = "val"
    chosen: Indices | None = None
    """Samples that stand for all; None is all."""


@dataclass(frozen=True)
class _Sums:
    """The sums of a pass."""

    values: torch.Tensor
    """Samples, sum and weight of the loss and of each term of a step, then the row of each metric, in float64."""
    worst: WorstSamples
    """Of this rank."""
    left_out: int = 0
    """Samples of all ranks that could not be read."""


def _finished(
    session: Session, split: str, sums: _Sums, length: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Make what is logged and what is kept of the sums of all ranks."""
    count, *means = sums.values.tolist()
    if int(count) + sums.left_out != length:
        raise DamagedError(
            f"evaluation saw {int(count)} samples of {length - sums.left_out}",
            "the data set's length changes while it is read; make __len__ tell the truth",
        )
    names = ("loss", *(session.val_terms or ()))
    measured, totals = session.measured, sums.values[1 + 2 * len(names) :].cpu()
    pairs = zip(means[::2], means[1::2], strict=False)
    numbers = {name: _mean(*pair) for name, pair in zip(names, pairs, strict=False)}
    numbers |= all_numbers(session.metrics, totals, session.group)
    if sums.left_out:
        numbers["left_out"] = sums.left_out
    view = {**confusion_view(measured, totals), "worst": sums.worst.everyone(session.group)}
    return {f"{split}/{name}": value for name, value in {**numbers, "count": int(count)}.items()}, view


def _sums(session: Session, abandon: Callable[[], bool], way: _Pass) -> _Sums | None:
    """Sum what every rank has; None where one of them has abandoned it.

    A model that is found only on the way to depend on the cut is evaluated anew.
    """
    everyone = session.group.sum(torch.tensor(float(way.fixed), device=session.group.device))
    values, gone, depends = _sums_of(session, abandon, replace(way, fixed=bool(everyone)))
    if depends and not gone:
        values, gone, _ = _sums_of(session, abandon, replace(way, fixed=True))
    return None if gone else values


def _sums_of(session: Session, abandon: Callable[[], bool], way: _Pass) -> tuple[_Sums, bool, bool]:
    """Make one pass on every rank; return its sums, whether any abandoned it, and whether the cut matters to any."""
    worst = WorstSamples(session.group.device)
    sums, *ended = _rank_sums(session, abandon, way, worst)
    everyone, (gone, depends) = sums.everyones(ended)
    left_out = 0
    if session.skips_bad_samples:
        left_out = int(session.group.sum(torch.tensor(sums.left_out, device=session.group.device)))
    return _Sums(everyone, worst, left_out), gone, depends


def _rank_sums(
    session: Session, abandon: Callable[[], bool], way: _Pass, worst: WorstSamples | None = None
) -> tuple[RowSums, bool, bool]:
    """Return [samples, sum and weight of the loss and of each term, the row of each metric] of this rank, in float64.

    And whether it was abandoned before the end, and whether it ended because the cut matters.
    """
    for metric in session.measured:
        metric.reset()
    width = 2 + 2 * len(session.val_terms or ()) + sum(metric.width for metric in session.measured)
    sums = _row_sums(session, way, width)
    abandoned = depends = False
    cut = session.fixed_val_work if way.fixed else session.val_work
    work = list(cut(way.split, way.chosen))
    passes = EqualPasses(session.module, session.group, len(work))
    for batch in session.val_feeds[way.split].fetch(iter(work)):
        abandoned = abandon()
        if passes.end(abandoned or depends):
            break
        _prepare(way, batch.work.start)
        sums.begin_batch()
        at = 0
        for micro, size in zip(batch.micro, batch.sizes, strict=True):
            if not size:  # all are left out
                session.objective(session.module, micro)
                continue
            row, losses, predicted = evaluate_batch(session, micro, size)
            sums.add(row, size)
            if worst is not None and losses is not None:
                worst.add(losses, batch.indices[at : at + size], predicted)
            at += size
        sums.left_out += sum(batch.left_out)
        depends = not way.fixed and bool(way.draws.drawn())
    depends = depends or (not way.fixed and bool(way.kept.changed()))
    passes.fill(lambda: _pass_of_nothing(session, way.split), lambda: depends or abandon())
    return sums, abandoned, depends


def _row_sums(session: Session, way: _Pass, width: int) -> RowSums:
    if session.spec.config.train.logical_ranks is None:
        return RowSums(width, session.group)
    return LogicalRowSums(width, session.group, session.logical_val_batches(way.split, way.chosen))


def _pass_of_nothing(session: Session, split: str) -> None:
    """Take part in a pass of other ranks, with a sample that counts for nothing."""
    batch = next(session.val_feeds[split].fetch(iter([Work(np.zeros(1, dtype=np.int64), [1])])))
    session.objective(session.module, batch.micro[0])


def _prepare(way: _Pass, first: int) -> None:
    """Key the draws of a batch by its first sample, or only wait for any."""
    if way.fixed:
        way.kept.restore()
        way.draws.key(first)
    else:
        way.draws.watch()


def _mean(value: float, weight: float) -> float:
    return value / weight if weight else float("nan")

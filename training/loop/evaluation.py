"""Evaluation: every validation sample once, sums in float64, one reduction at the end.

It is a function of the weights. A model may draw, mix the samples of a batch, or write to its buffers: then the
validation set is cut alike for any number of processes, and each batch has the same buffers and a key of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ...data.common import DamagedError
from ..components import shared_buffers
from ..session import EvaluationDraws, KeptBuffers, Session, evaluation_mode, evaluation_row, try_evaluation


def evaluate(session: Session, abandon: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
    """Compute ``val/loss``, ``val/NAME`` for each metric and ``val/count``, the same on every rank.

    Collective: every rank calls it. The model and the generators are left as they were.

    Args:
        session: with the model to evaluate.
        abandon: asked between batches; ranks need not hear the same at the same time.

    Returns:
        None on every rank where any of them has abandoned it.

    Raises:
        DamagedError: the samples that were evaluated are not as many as the split has.
    """
    if session.val_feed is None or session.spec.facts.val is None:
        return {}
    with shared_buffers(session.model, session.group), evaluation_mode(session) as (draws, kept):
        fixed = try_evaluation(session, draws, kept).depends_on_cut
        values = _sums(session, abandon, _Pass(draws, kept, fixed))
    if values is None:
        return None
    if int(values[0]) != session.spec.facts.val.length:
        raise DamagedError(
            f"evaluation saw {int(values[0])} samples of {session.spec.facts.val.length}",
            "the data set's length changes while it is read; make __len__ tell the truth",
        )
    means = [_mean(values[at], values[at + 1]) for at in range(1, len(values), 2)]
    names = ["val/loss", *(f"val/{name}" for name in session.metrics)]
    return {**dict(zip(names, means, strict=True)), "val/count": int(values[0])}


@dataclass(frozen=True)
class _Pass:
    """A pass over the validation set, inside ``evaluation_mode``."""

    draws: EvaluationDraws
    kept: KeptBuffers
    fixed: bool
    """Whether the cut is the same for any number of processes, and no batch knows of another."""


def _sums(session: Session, abandon: Callable[[], bool], way: _Pass) -> list[float] | None:
    """Sum what every rank has; None where one of them has abandoned it.

    A model that is found only on the way to depend on the cut is evaluated anew.
    """
    everyone = session.group.sum(torch.tensor(float(way.fixed), device=session.group.device))
    values, gone, depends = _sums_of(session, abandon, replace(way, fixed=bool(everyone)))
    if depends and not gone:
        values, gone, _ = _sums_of(session, abandon, replace(way, fixed=True))
    return None if gone else values


def _sums_of(session: Session, abandon: Callable[[], bool], way: _Pass) -> tuple[list[float], bool, bool]:
    """Make one pass on every rank; return its sums, whether any abandoned it, and whether the cut matters to any."""
    sums, *ended = _rank_sums(session, abandon, way)
    *values, gone, depends = session.group.sum(torch.cat([sums, sums.new_tensor(ended)])).tolist()
    return values, bool(gone), bool(depends)


def _rank_sums(session: Session, abandon: Callable[[], bool], way: _Pass) -> tuple[torch.Tensor, bool, bool]:
    """Return [samples, loss sum, loss weight, then sum and count of each metric] of this rank, in float64.

    And whether it was abandoned before the end, and whether it ended because the cut matters.
    """
    if session.val_feed is None:
        raise ValueError("no validation split")
    rows: list[torch.Tensor] = []
    samples = 0
    abandoned = depends = False
    for batch in session.val_feed.fetch(session.fixed_val_work() if way.fixed else session.val_work()):
        if abandoned := abandon():
            break
        _prepare(way, batch.work.start)
        rows += [
            torch.stack(evaluation_row(session, x, y, size))
            for (x, y), size in zip(batch.micro, batch.work.micro, strict=True)
        ]
        samples += batch.indices.size
        if depends := not way.fixed and bool(way.draws.drawn()):
            break
    width = 2 + 2 * len(session.metrics)
    sums = torch.stack(rows).sum(0) if rows else torch.zeros(width, dtype=torch.float64)
    sums = sums.to(session.group.device)
    depends = depends or (not way.fixed and bool(way.kept.changed()))
    return torch.cat([sums.new_tensor([samples]), sums]), abandoned, depends


def _prepare(way: _Pass, first: int) -> None:
    """Key the draws of a batch by its first sample, or only wait for any."""
    if way.fixed:
        way.kept.restore()
        way.draws.key(first)
    else:
        way.draws.watch()


def _mean(value: float, weight: float) -> float:
    return value / weight if weight else float("nan")

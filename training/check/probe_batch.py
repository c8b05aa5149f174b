"""``launch check``: the first samples of a run, whole and in parts, and what the model says to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ...data.common import LockstepError
from ...data.loading import Work
from ...data.order import EpochOrder, Indices
from ..losses import LossObjective, Outcome, needs_classes
from ..rank import GatherTrial, gathering
from ..session import EvaluationDraws, Session, copied, preserved_state, training_mode, try_step
from ..tensors import trainable
from .finding import Finding
from .loss_checks import FIRST_PART_SIZES, Cut, check_loss, has_rows, split, split_outputs
from .model_checks import check_sample_independence

_WHOLE_BATCH = (
    "a sample's loss depends on the others of the global batch, and no less on any number of processes"
)
_LOOKED_AT = 12  # samples of the batch that is cut into parts


@dataclass(frozen=True)
class ProbeBatch:
    """A batch and its parts."""

    x: Any
    """What is called with in a pass: the inputs, or for a step the whole batch."""
    parts: list[Any]
    part_sizes: list[int]
    evaluation_seconds: float
    cut: Cut | None
    """What metrics are given; None where a step returns no output."""
    gathers: bool = False
    """Whether the step looks at the whole batch by ``lockstep.gather``."""
    scores: int | None = None
    """Classes that the model chooses between, where the loss does so."""


def probe_first_batch(session: Session, explain: Callable[[Session], Any]) -> ProbeBatch:
    """Pass the first samples of epoch 0 through the model, whole and in parts.

    Args:
        session: with model and data.
        explain: raises what says best why they do not fit each other.
    """
    try:
        return _probe(session)
    except LockstepError:
        raise
    except Exception:
        explain(session)
        raise


def unreached(session: Session, names: Sequence[str]) -> list[str]:
    """Return those of the parameters that the loss of the first samples of epoch 0 does not reach."""
    if not names:
        return []
    indices = _first_samples(session)
    (batch,) = _fetch(session, indices, [indices.size])
    with preserved_state(session.model), training_mode(session.model, training=True):
        try_step(session.model, session.module, session.objective, batch, indices.size)
        reached = {name for name, parameter in trainable(session.model) if parameter.grad is not None}
    session.model.zero_grad(set_to_none=True)
    return [name for name in names if name not in reached]


def _first_samples(session: Session) -> Indices:
    order = EpochOrder(session.order, session.spec.config.train.seed, 0)
    return order.indices(0, min(session.batches.n, _LOOKED_AT))


def _probe(session: Session) -> ProbeBatch:
    indices = _first_samples(session)
    sizes = split_sizes(indices.size)
    (whole,) = _fetch(session, indices, [indices.size])
    if not isinstance(session.objective, LossObjective):
        return _of_step(session, indices, whole, sizes)
    x, target = whole
    output = _evaluated(session, partial(session.forward, copied(whole)))
    pieces = list(zip(split(x, sizes), split(target, sizes), strict=True))
    if not all(has_rows(value, indices.size) for value in (x, target)):
        pieces = _fetch(session, indices, sizes)
    outputs = split_outputs(output, target, sizes) or [
        (output, [_evaluated(session, partial(session.forward, copied(piece))) for piece in pieces])
    ]
    seconds = _evaluation_seconds(session, indices, partial(session.forward, copied(whole)))
    chooses = needs_classes(session.spec.config.trained_loss) and isinstance(output, torch.Tensor)
    scores = output.shape[1] if chooses and output.ndim > 1 else None
    cut = Cut(outputs, target, [y for _, y in pieces], sizes)
    return ProbeBatch(x, [x for x, _ in pieces], sizes, seconds, cut, scores=scores)


def _of_step(session: Session, indices: Indices, whole: Any, sizes: list[int]) -> ProbeBatch:
    pieces = _fetch(session, indices, sizes)
    with gathering(gather := GatherTrial()):
        first, *rest = [_evaluated(session, partial(_outcome, session, batch)) for batch in (whole, *pieces)]
    outputs = [(first.output, [outcome.output for outcome in rest])]
    cut = Cut(outputs, first.target, [outcome.target for outcome in rest], sizes)
    seconds = _evaluation_seconds(session, indices, partial(session.forward, copied(whole)))
    return ProbeBatch(whole, pieces, sizes, seconds, None if first.output is None else cut, gather.used)


def _outcome(session: Session, batch: Any) -> Outcome:
    return session.objective(session.module, batch)


def check_objective(session: Session, batch: ProbeBatch) -> Iterator[Finding]:
    """Check whether the loss, and each term that a step returns besides it, is a sum over samples."""
    if isinstance(session.objective, LossObjective):
        if batch.cut is not None:
            yield check_loss(session.objective.loss, batch.cut)
        return
    if batch.gathers:
        yield Finding("loss", "NOTE", f"the step calls lockstep.gather: {_WHOLE_BATCH}")
        return
    cut = Cut([(batch.x, batch.parts)], batch.x, batch.parts, batch.part_sizes)
    with (
        training_mode(session.model, training=False),
        torch.no_grad(),
        EvaluationDraws(session.model, session.spec.config.train.seed, session.group.device) as draws,
    ):
        draws.watch()
        terms = ["loss", *_outcome(session, batch.x).terms]
        if drawn := draws.drawn():
            what = f"the step draws from {' and '.join(drawn)}: whether its loss is a sum over samples is unknown"
            yield Finding("loss", "NOTE", what)
            return
        for name in terms:
            found = check_loss(partial(_term, session, name), cut)
            yield found if name == "loss" else found.named(f"term {name}")


def check_independence(session: Session, batch: ProbeBatch, depends: Sequence[str]) -> Finding:
    """Check that a sample's output does not depend on its batch, unless a step wants it to."""
    if batch.gathers:
        return Finding("model", "NOTE", f"it is called by a step with lockstep.gather: {_WHOLE_BATCH}")
    return check_sample_independence(session.module, batch.x, batch.parts, batch.part_sizes, depends)


def _term(session: Session, name: str, batch: Any, _: Any) -> Any:
    outcome = _outcome(session, batch)
    return outcome.loss if name == "loss" else outcome.terms[name]


def _evaluated(session: Session, forward: Callable[[], Any]) -> Any:
    with training_mode(session.model, training=False), torch.no_grad():
        return forward()


def _evaluation_seconds(session: Session, indices: Indices, forward: Callable[[], Any]) -> float:
    """Estimate the seconds of an evaluation in one process, from the second pass over a few samples."""
    if session.spec.facts.val is None:
        return 0.0
    started = time.monotonic()
    _fetch(session, indices, [indices.size])
    _evaluated(session, forward)
    return (time.monotonic() - started) / indices.size * session.spec.facts.val.length


def split_sizes(samples: int) -> list[int]:
    """Return unequal parts of a batch, as other numbers of processes would have them."""
    sizes = list(FIRST_PART_SIZES) if samples > sum(FIRST_PART_SIZES) else [1] * (samples > 1)
    return [*sizes, samples - sum(sizes)]


def _fetch(session: Session, indices: Indices, micro: list[int]) -> list[Any]:
    return list(next(iter(session.train_feed.fetch(iter([Work(indices, micro)])))).micro)

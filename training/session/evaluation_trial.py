"""What an evaluation computes of a batch, and whether that depends on how the validation set is cut into batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves, tree_map

from ...data.common import LockstepError, TrainingError
from ...data.loading import Work
from ...data.order import Indices
from ...data.samples import as_bytes
from ..losses import Outcome, scalar_on, sum_loss, term_sums
from ..metrics import predicted_classes
from .evaluation_draws import EvaluationDraws
from .kept_buffers import KeptBuffers, preserved_buffers
from .kept_modes import training_mode
from .session import Session

_SAMPLES = 4  # as many as one rank of a run whose ranks train on one sample evaluates at once
_TOLERANCE = {"fp64": 1e-11, "fp32": 1e-5}
_GPU_TOLERANCE = {"fp64": 1e-11, "fp32": 1e-3}
"""Convolutions round to TF32, and choose by the size of a batch how."""
_HALF_TOLERANCE = 2e-2  # of the half types
_MIXING = 1e-4  # rounding in float32, as of a loss that computes in it whatever it is given, is far less


@dataclass(frozen=True)
class EvaluationTrial:
    """Findings of an evaluation of a few samples, together and in parts."""

    draws: tuple[str, ...] = ()
    """Generators that the model, the loss or a metric draws from."""
    changed: tuple[str, ...] = ()
    """Buffers that are written to."""
    apart: float = 0.0
    """How far the parts' sum is from the whole."""
    tolerance: float = 0.0
    """As far as rounding may bring them apart."""
    padded: bool = False
    """A batch is as long as the longest of its samples."""
    unrepeatable: bool = False
    """The same samples give another result the second time."""
    other_samples: bool = False
    """What is read a second time is something else: the parts say nothing about the whole."""

    @property
    def depends_on_cut(self) -> bool:
        """Say whether only a cut that is the same for all numbers of processes gives the same result."""
        apart = self.apart > self.tolerance
        return bool(self.draws or self.changed or apart or self.padded or self.unrepeatable)

    @property
    def mixing(self) -> bool:
        """Say whether a sample's result depends on the others of its batch."""
        return not self.draws and self.apart > max(self.tolerance, _MIXING)


def evaluate_batch(
    session: Session, batch: Any, samples: int
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Evaluate a batch of ``samples``.

    The first batch that is evaluated says which terms there are; it is the same one on every rank.

    Returns:
        Float64: sum and weight of the loss and of each term of a step, then the row of each metric, and of the
        confusion matrix that is kept. And the loss of each sample, where the loss tells it, and its predicted class,
        where classes are counted.
    """
    outcome = session.objective(session.module, batch)
    if session.val_terms is None:
        session.val_terms = tuple(outcome.terms)
    summed, weight = sum_loss(outcome.loss, samples)
    pair = [
        summed.detach().double(),
        scalar_on(summed.device, samples if weight is None else weight).double(),
    ]
    device = session.group.device
    parts = [torch.stack([value.to(device) for value in pair])]
    if session.val_terms or outcome.terms:
        parts.append(term_sums(outcome.terms, session.val_terms, samples).flatten().to(device))
    if session.metrics:
        _refuse_no_output(outcome)
    parts += [metric.row(outcome.output, outcome.target).to(device) for metric in session.measured]
    losses = outcome.loss.detach() if weight is None else None
    return torch.cat(parts), losses, predicted_classes(session.measured, outcome.output, outcome.target)


def _refuse_no_output(outcome: Outcome) -> None:
    if outcome.output is None:
        raise TrainingError(
            "metrics: the step returns no output that they could measure",
            'return {"loss": ..., "output": ...} from the step, or leave metrics out: metrics=[]',
        )


def evaluation_row(session: Session, batch: Any, samples: int) -> torch.Tensor:
    """Return the sums of a batch, as ``evaluate_batch`` has them."""
    return evaluate_batch(session, batch, samples)[0]


@contextmanager
def evaluation_mode(session: Session) -> Iterator[tuple[EvaluationDraws, KeptBuffers]]:
    """Evaluate inside; afterwards modes, buffers and generators are as they were.

    Without gradients, but not in torch's inference mode: a table that the model makes for its longest input would be
    of no use to training. Inference mode saved an MLP and a small CNN 1 to 3 % of the time.
    """
    model, seed, device = session.model, session.spec.config.train.seed, session.group.device
    with (
        training_mode(model, training=False),
        preserved_buffers(model) as kept,
        EvaluationDraws(model, seed, device) as draws,
        torch.no_grad(),
    ):
        yield draws, kept


def try_evaluation(
    session: Session, draws: EvaluationDraws, kept: KeptBuffers, split: str = "val", *, repeat: bool = False
) -> EvaluationTrial:
    """Evaluate the same few samples on every rank, inside ``evaluation_mode``, whole and in parts.

    Args:
        session: with the model.
        draws: of ``evaluation_mode``.
        kept: of ``evaluation_mode``.
        split: whose samples.
        repeat: evaluate them whole once more, too.
    """
    samples = _trial_samples(session, split)
    if not samples.size:
        return EvaluationTrial()
    parts = [1, samples.size - 1] if samples.size > 1 else [1]
    fetched = session.val_feeds[split].fetch(iter([Work(samples, [samples.size]), Work(samples, parts)]))
    whole, pieces = [list(zip(batch.micro, batch.work.micro, strict=True)) for batch in fetched]
    padded = session.val_feeds[split].pads_by_batch
    other_samples = not padded and are_other_samples(whole, pieces)
    draws.watch()
    row = evaluation_row(session, copied(whole[0][0]), whole[0][1])
    drawn, changed = draws.drawn(), kept.changed()
    anew = _sum_anew(session, draws, kept, whole) if repeat else row
    apart = math.inf if drawn else 0.0
    if not drawn and not other_samples:
        apart = _difference(row, _sum_anew(session, draws, kept, pieces))
    tolerance = rounding_tolerance(session)
    return EvaluationTrial(
        tuple(drawn),
        tuple(changed),
        apart,
        tolerance,
        padded,
        unrepeatable=_difference(row, anew) > tolerance,
        other_samples=other_samples,
    )


def _trial_samples(session: Session, split: str) -> Indices:
    """Choose samples from all over the validation set: neighbours may be alike."""
    length = session.split_length(split)
    count = min(_SAMPLES, length, session.spec.config.data.micro_limit or _SAMPLES)
    return np.unique(np.linspace(0, length - 1, count).astype(np.int64))


def copied(batch: Any) -> Any:
    """Copy a batch's tensors: a model may write to them."""
    return tree_map(lambda value: value.clone() if isinstance(value, torch.Tensor) else value, batch)


def are_other_samples(whole: Sequence[tuple[Any, int]], pieces: Sequence[tuple[Any, int]]) -> bool:
    """Tell whether samples that were read twice, in other batches, differ in a bit."""
    one = tree_leaves(whole[0][0])
    parts = [tree_leaves(piece) for piece, _ in pieces]
    if any(len(part) != len(one) for part in parts):
        return False
    leaves = zip(one, zip(*parts, strict=True), strict=True)
    return any(
        _differ(leaf, others) for leaf, others in leaves if isinstance(leaf, torch.Tensor) and leaf.ndim
    )


def _differ(leaf: torch.Tensor, parts: Sequence[Any]) -> bool:
    dense = [
        part for part in (leaf, *parts) if isinstance(part, torch.Tensor) and part.layout == torch.strided
    ]
    if len(dense) <= len(parts) or any(part.shape[1:] != leaf.shape[1:] for part in dense):
        return False
    joined = torch.cat(dense[1:])
    return joined.shape == leaf.shape and not torch.equal(as_bytes(joined), as_bytes(leaf))


def _sum_anew(
    session: Session, draws: EvaluationDraws, kept: KeptBuffers, parts: Sequence[tuple[Any, int]]
) -> torch.Tensor | None:
    """Add up what the parts give; None where one of them is too small for the model."""
    rows = []
    for batch, samples in parts:
        kept.restore()
        draws.watch()
        try:
            rows.append(evaluation_row(session, copied(batch), samples))
        except LockstepError:
            raise
        except Exception:  # noqa: BLE001 - the user's code: its own words come where a real batch is too small
            return None
    return torch.stack(rows).sum(0)


def rounding_tolerance(session: Session) -> float:
    """Return how far rounding may bring two results apart, relative to those above 1."""
    known = _TOLERANCE if session.group.device.type == "cpu" else _GPU_TOLERANCE
    return known.get(session.numerics.name, _HALF_TOLERANCE)


def _difference(one: torch.Tensor, other: torch.Tensor | None) -> float:
    """Return the largest difference of two values, relative to those above 1; NaN and infinity equal themselves."""
    if other is None:
        return math.inf
    apart = (one - other).abs() / one.abs().clamp(min=1)
    same = (one == other) | (one.isnan() & other.isnan())
    return float(torch.where(same, 0, apart).nan_to_num(nan=math.inf).max())


def evaluation_notes(trial: EvaluationTrial, batch: int) -> list[str]:
    """Tell what makes an evaluation depend on its cut, and what is done about it.

    Args:
        trial: what was seen.
        batch: samples of a batch, then.
    """
    cut = f"its validation set is cut into batches of at most {batch} samples for any number of processes"
    found = []
    if trial.draws:
        found.append(
            f"in evaluation the model draws from {' and '.join(trial.draws)}: {cut}, each with a key of its own"
        )
    if trial.changed:
        names = ", ".join(trial.changed)
        found.append(f"in evaluation the model writes to {names}: each batch finds it as training left it")
    if trial.mixing:
        found.append(f"in evaluation a sample's result depends on the others of its batch: {cut}")
    if trial.padded:
        found.append(f"in evaluation a batch is padded to the longest of its samples: {cut}")
    if trial.other_samples:
        found.append(
            "warning: the validation samples are others each time they are read: no number of its evaluation can be"
            " repeated"
        )
    if trial.unrepeatable:
        found.append(
            "warning: in evaluation the model gives another result for the same samples: it draws from what nobody"
            " seeds, or keeps something outside of parameters and buffers; no number of its evaluation can be repeated"
        )
    return found

"""A first pass in training mode, and what it shows: what it costs, draws, and which buffers learn from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from ...data.common import TrainingError
from ...data.loading import Work
from ..components import batch_norm, nonlinear_hooks
from ..losses import LossObjective
from ..tensors import PlainAttributes, plain_name, plain_state
from .evaluation_draws import EvaluationDraws
from .evaluation_trial import are_other_samples, copied, rounding_tolerance
from .first_batch import FIRST_BATCH_SAMPLES, first_batch
from .kept_buffers import KeptBuffers, KeptParameters, equals_to_the_bit, preserved_buffers
from .session import Session

_NAMED = 5  # buffers at most
_ANEW = "a resumed run and `launch eval` begin it anew"


@dataclass(frozen=True)
class TrainingTrial:
    """Findings of a pass that leaves nothing behind."""

    output: Any
    flops: int
    draws: tuple[str, ...]
    """Generators that the model draws from."""
    learning: tuple[str, ...]
    """Buffers that are other ones after other samples."""
    written: frozenset[str] = frozenset()
    """Buffers that a pass writes to."""
    evolving: tuple[str, ...] = ()
    """Plain attributes that are others after the same pass again."""
    is_repeatable: bool = True
    """Whether the same inputs, draws and buffers give the same output."""
    growing: tuple[str, ...] = ()
    """Buffers that get another shape or type, and hold something else after other samples."""
    written_weights: tuple[str, ...] = ()
    """Parameters that a forward pass writes to."""
    learning_weights: tuple[str, ...] = ()
    """Those of them that are other ones after other samples."""
    weights: KeptParameters | None = None
    """What they were, where a pass changes any, or whether it is trained."""
    mixes: bool = False
    """Whether a sample's output is another one where it is passed alone."""
    hooked: tuple[str, ...] = ()
    """Parameters whose hooks give for a sum of gradients something else than the sum of what they give for each."""

    def restore_weights(self) -> None:
        """Put back what further passes have changed."""
        if self.weights is not None:
            self.weights.restore()


def try_training(session: Session, inputs: Any) -> TrainingTrial:
    """Pass the first inputs through a model that is in training mode, and others where its buffers changed."""
    seed, device, model = session.spec.config.train.seed, session.group.device, session.model
    weights = KeptParameters(model)
    with EvaluationDraws(model, seed, device) as draws, preserved_buffers(model) as kept:
        draws.watch()
        untouched = copied(inputs)
        with _FlopCounter() as counter:
            output = session.module(inputs)
        drawn, after = draws.drawn(), _After.now(kept, weights)
        writes = bool(after.weights) or weights.are_switched
        weights.restore()
        evolving, is_repeatable = _repeat(session, draws, kept, copied(untouched), output)
        weights.restore()
        is_cut_alike = session.spec.config.train.logical_ranks is not None  # by any number of processes
        alone = is_repeatable and not drawn and not after and not is_cut_alike
        mixes = alone and _mixes(session, kept, weights, untouched, output)
        other = _after_others(session, draws, kept, weights) if after else after
        learning = _different(after.buffers, other.buffers)
        return TrainingTrial(
            output,
            counter.get_total_flops(),
            tuple(drawn),
            learning,
            frozenset({*after.buffers, *learning}),
            evolving,
            is_repeatable,
            _grown(after.reshaped, other.reshaped),
            tuple(after.weights),
            _different(after.weights, other.weights),
            weights if writes else None,
            mixes,
            () if is_cut_alike else tuple(nonlinear_hooks(model)),
        )


class _NoTracker(ModuleTracker):
    """Tracker of modules that follows none: with torch's own, a model cannot call ``autograd.grad`` in its forward."""

    def __enter__(self) -> Self:
        """Begin to count."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""


class _FlopCounter(FlopCounterMode):
    """Counter of a model's floating-point operations, whichever modules they are in."""

    def __init__(self) -> None:
        super().__init__(display=False)
        self.mod_tracker = _NoTracker()


@dataclass(frozen=True)
class _After:
    """Differences of a model after a pass."""

    buffers: dict[str, torch.Tensor]
    reshaped: dict[str, torch.Tensor | None]
    weights: dict[str, torch.Tensor]

    @classmethod
    def now(cls, kept: KeptBuffers, weights: KeptParameters) -> _After:
        """Look at the model."""
        return cls(kept.changed(), kept.reshaped(), weights.changed())

    def __bool__(self) -> bool:
        """Say whether there is anything."""
        return bool(self.buffers or self.reshaped or self.weights)


def _repeat(
    session: Session, draws: EvaluationDraws, kept: KeptBuffers, inputs: Any, output: Any
) -> tuple[tuple[str, ...], bool]:
    """Make the same pass again: what differs then, nobody keeps."""
    attributes = PlainAttributes(session.model)
    kept.restore()
    draws.watch()
    again = session.module(inputs)
    tolerance = rounding_tolerance(session)
    pairs = list(zip(tree_leaves(output), tree_leaves(again), strict=False))
    return tuple(attributes.changed()), all(_are_close(*pair, tolerance) for pair in pairs)


def _are_close(one: Any, other: Any, tolerance: float) -> bool:
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor) or one.shape != other.shape:
        return True
    return not one.is_floating_point() or torch.allclose(one, other, tolerance, tolerance, equal_nan=True)


def _mixes(session: Session, kept: KeptBuffers, weights: KeptParameters, inputs: Any, output: Any) -> bool:
    """Tell whether samples that are passed alone give other outputs; a step may look at the whole batch."""
    leaves = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
    if not isinstance(session.objective, LossObjective) or not all(map(_has_rows, leaves)):
        return False
    kept.restore()
    try:
        with torch.no_grad():
            pieces = [session.module(_row(inputs, number)) for number in range(FIRST_BATCH_SAMPLES)]
    except Exception:  # noqa: BLE001 - the user's code: what it says of one sample is said where there is one
        return False
    finally:
        weights.restore()
    parts = zip(tree_leaves(output), *map(tree_leaves, pieces), strict=False)
    return any(_is_apart(whole, alone, 10 * rounding_tolerance(session)) for whole, *alone in parts)


def _has_rows(leaf: torch.Tensor) -> bool:
    return bool(leaf.ndim) and len(leaf) == FIRST_BATCH_SAMPLES


def _row(inputs: Any, number: int) -> Any:
    return tree_map(
        lambda leaf: leaf[number : number + 1].clone() if isinstance(leaf, torch.Tensor) else leaf, inputs
    )


def _is_apart(whole: Any, alone: list[Any], tolerance: float) -> bool:
    """Tell whether rows differ by more than rounding; what has no row for each sample tells nothing."""
    dense = [x for x in (whole, *alone) if isinstance(x, torch.Tensor) and x.ndim and x.is_floating_point()]
    if len(dense) <= len(alone) or not _has_rows(whole) or any(len(row) != 1 for row in alone):
        return False
    if any(row.shape[1:] != whole.shape[1:] for row in alone) or not bool(whole.isfinite().all()):
        return False
    return bool(whole.numel()) and bool(
        (torch.cat(alone) - whole).abs().max() > tolerance * whole.abs().max()
    )


def _after_others(
    session: Session, draws: EvaluationDraws, kept: KeptBuffers, weights: KeptParameters
) -> _After:
    """Look at the model after another batch than the first: a counter of steps is the same on all ranks."""
    kept.restore()
    draws.watch()
    session.forward(first_batch(session, 1))
    after = _After.now(kept, weights)
    weights.restore()
    return after


def _different(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> tuple[str, ...]:
    """Name what two batches change to something else."""
    both = one.keys() & other.keys()
    alike = {name for name in both if equals_to_the_bit(one[name], other[name])}
    return tuple(sorted((one.keys() | other.keys()) - alike))


def _grown(one: dict[str, torch.Tensor | None], other: dict[str, torch.Tensor | None]) -> tuple[str, ...]:
    """Name what has other values where both batches have made some: a table for the longest input has the same."""
    pairs = {name: (one[name], other[name]) for name in one.keys() & other.keys()}
    return tuple(sorted(name for name, (a, b) in pairs.items() if not _share_a_corner(a, b)))


def _share_a_corner(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None or one.ndim != other.ndim or one.dtype != other.dtype:
        return one is other
    corner = tuple(slice(min(sizes)) for sizes in zip(one.shape, other.shape, strict=True))
    return equals_to_the_bit(one[corner], other[corner])


def world_size_dependence(model: nn.Module, trial: TrainingTrial) -> list[str]:
    """Name what makes training depend on the number of processes, of a model in training mode."""
    found = batch_norm.world_size_dependent_layers(model)
    if trial.draws and "dropout" not in found:
        found.append("random draws")
    if trial.mixes and not found:
        found.append("outputs that depend on the other samples of a batch")
    if trial.hooked:
        found.append(f"hooks that change gradients before they are added up ({_some(trial.hooked)})")
    if names := _own_learning_buffers(model, trial):
        more = ", …" if len(names) > _NAMED else ""
        found.append(
            f"buffers that learn from each process's own samples ({', '.join(names[:_NAMED])}{more})"
        )
    return found


def _own_learning_buffers(model: nn.Module, trial: TrainingTrial) -> list[str]:
    norms = tuple(
        plain_name(name) for name, module in model.named_modules() if isinstance(module, _BatchNorm)
    )
    return [name for name in trial.learning if name.rpartition(".")[0] not in norms]


def refuse_own_learning(session: Session, trial: TrainingTrial) -> None:
    """Refuse what each process, or logical rank, would learn from its own samples, and nobody could bring together.

    Args:
        session: with the model that was tried.
        trial: its findings.

    Raises:
        TrainingError: forward passes write to parameters by what the samples are, or a buffer grows by them.
    """
    train = session.spec.config.train
    if (train.logical_ranks or session.group.world_size) == 1:
        return
    limited = [
        plain_name(f"{name}.weight".lstrip("."))
        for name, module in session.model.named_modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None
    ]
    if names := sorted({*trial.learning_weights, *limited}):
        why = "max_norm scales the rows that are looked up" if limited else "by what the samples are"
        raise TrainingError(
            f"a forward pass writes to {_some(names)} ({why}), and each process sees other samples: their weights"
            " would differ",
            "compute it without writing (normalise what an embedding returns), learn it in a buffer"
            " (register_buffer), or use one process",
        )
    if trial.written_weights and (train.strategy != "ddp" or train.logical_ranks):
        raise TrainingError(
            f"a forward pass writes to {_some(trial.written_weights)}, which a part of it, or of the batch, would not"
            " have seen",
            "write to a buffer (register_buffer), or use train.strategy=ddp without train.logical_ranks",
        )
    if trial.growing:
        raise TrainingError(
            f"the buffer {_some(trial.growing)} is made, or grows, by the samples that a pass sees, and each process"
            " sees others",
            "give it its full size in __init__, or use one process",
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def training_notes(session: Session, trial: TrainingTrial) -> list[str]:
    """Tell of what no checkpoint has or no step seeds: buffers and attributes that learn, and draws."""
    saved = plain_state(session.model)
    lost = [name for name in trial.learning if name not in saved]
    found = [*_attribute_notes(trial), *_draw_notes(trial), *_cut_notes(session)]
    if lost:
        what = (
            f"{', '.join(lost)} learns, but no checkpoint has it: {_ANEW}; register it with persistent=True"
        )
        found.append(f"warning: {what}")
    return found


def _draw_notes(trial: TrainingTrial) -> list[str]:
    unkeyed = [name for name in trial.draws if not name.startswith("torch's generator")]
    if not unkeyed:
        return []
    what = (
        f"in training the model draws from {' and '.join(unkeyed)}, which no step seeds: a resumed run draws others,"
        " and so does each process; draw from torch's generator: torch.rand, torch.randperm"
    )
    return [f"warning: {what}"]


def _cut_notes(session: Session) -> list[str]:
    """Tell of a collate function that makes other samples of the same ones in another batch."""
    config = session.spec.config
    if config.data.collate is None or session.train_feed.pads_by_batch:
        return []
    rows = np.arange(min(FIRST_BATCH_SAMPLES, session.batches.n), dtype=np.int64)
    work = iter([Work(rows, [rows.size]), Work(rows, [1] * rows.size)])
    whole, pieces = [
        list(zip(batch.micro, batch.work.micro, strict=True)) for batch in session.train_feed.fetch(work)
    ]
    if not are_other_samples(whole, pieces):
        return []
    depends = "" if config.train.logical_ranks else ", and results depend on the number of processes"
    what = (
        "data.collate makes something else of a sample in another batch: it draws, or keeps something from one batch to"
        f" the next{depends}; draw in __getitem__, where draws are keyed by the sample"
    )
    return [f"warning: {what}"]


def _attribute_notes(trial: TrainingTrial) -> list[str]:
    """Tell of what a model keeps in plain attributes, from one pass to the next."""
    names = ", ".join(trial.evolving[:_NAMED]) + (", …" if len(trial.evolving) > _NAMED else "")
    if not trial.is_repeatable:
        what = f" in {names}" if names else ""
        note = (
            f"warning: the model keeps something{what} from one training pass to the next, its output depends on it,"
            f" and no checkpoint has it: {_ANEW}; make it a buffer: self.register_buffer(name, tensor)"
        )
        return [note]
    if names:
        return [f"{names} of the model changes with every training pass, and no checkpoint has it: {_ANEW}"]
    return []

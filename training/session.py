"""Everything that a rank builds before its first step, from the spec and the group."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from ..data.batches import Feed, Work, normalise_for, open_feed
from ..data.datasets import open_split
from ..data.errors import TrainingError
from ..data.order import Batches, EpochOrder, micro_sizes, shard
from . import batchnorm
from .group import Group
from .losses import Loss, Metric, build_loss, build_metrics
from .models import build_model, trainable
from .optim import Schedule, build_optimizer
from .precision import Numerics, choose
from .randomness import seed_start
from .runspec import RunSpec
from .step import Stepper, warm_up

_EVAL_FACTOR = 4  # evaluation keeps no activations: batches of four times the training share fit as well


@dataclass
class Session:
    """One rank, ready to train or to evaluate."""

    spec: RunSpec
    group: Group
    numerics: Numerics
    model: nn.Module
    """The model itself, autocast included; what evaluation runs and checkpoints hold."""
    loss: Loss
    metrics: dict[str, Metric]
    batches: Batches
    train_feed: Feed
    val_feed: Feed | None

    def train_work(self, epoch: int, first: int) -> Iterator[Work]:
        """This rank's work in the steps of an epoch from step ``first`` on."""
        order = EpochOrder(self.batches.n, self.spec.config.train.seed, epoch)
        rank, world_size = self.group.rank, self.group.world_size
        limit = self.spec.config.data.max_micro_batch
        for step in range(first, self.batches.steps):
            whole = order.indices(*self.batches.span(step))
            begin, offset = self.batches.shard(step, rank, world_size), self.batches.span(step)[0]
            mine = whole[begin[0] - offset : begin[1] - offset]
            record = whole if rank == 0 else None
            if mine.size:
                yield Work(mine, micro_sizes(mine.size, limit), epoch, begin[0], record)
            else:
                stand_in = np.resize(whole[:1], self._stand_in_size)
                yield Work(stand_in, [stand_in.size], epoch, begin[0], record, stand_in=True)

    @property
    def _stand_in_size(self) -> int:
        """One sample; under batch norm the same one twice, as one alone has no variance."""
        return 2 if batchnorm.mixes_samples(self.model) else 1

    def val_work(self) -> Iterator[Work]:
        """This rank's part of the validation set, in order, without padding."""
        facts = self.spec.facts.val
        begin, end = shard(0, facts.length if facts else 0, self.group.rank, self.group.world_size)
        share = -(-self.batches.batch_size // self.group.world_size)
        size = min(_EVAL_FACTOR * share, self.spec.config.data.max_micro_batch or _EVAL_FACTOR * share)
        for start in range(begin, end, size):
            indices = np.arange(start, min(start + size, end), dtype=np.int64)
            yield Work(indices, [indices.size], 0, start)


def open_session(spec: RunSpec, group: Group) -> Session:
    """Build the model and open the data."""
    config = spec.config
    torch.use_deterministic_algorithms(config.train.deterministic)
    numerics = choose(config.train.precision, group.device)
    seed_start(config.train.seed)
    model = numerics.prepare(build_model(config.model, spec.facts, spec.base))
    batches = Batches(spec.facts.train.length, config.data.batch_size)
    classes = spec.facts.classes if config.loss.use == "cross_entropy" else None
    normalise = normalise_for(spec.facts, numerics.dtype, group.device)

    def feed(which: Any) -> Feed:
        split = open_split(spec.facts, which, config.data, spec.base)
        workers = config.data.workers
        return open_feed(
            split, normalise, group.device, workers=workers, classes=classes, seed=config.train.seed
        )

    return Session(
        spec=spec,
        group=group,
        numerics=numerics,
        model=model,
        loss=build_loss(config.loss, spec.base),
        metrics=build_metrics(config, spec.base),
        batches=batches,
        train_feed=feed("train"),
        val_feed=None if spec.facts.val is None else feed("val"),
    )


@dataclass
class Training:
    """What training needs beyond a session."""

    session: Session
    optimizer: torch.optim.Optimizer
    names: dict[int, str]
    """Name of each trainable parameter by ``id``."""
    schedule: Schedule
    stepper: Stepper
    steps: int
    """Optimizer steps of the whole run."""
    unused: list[str]
    """Parameters that the loss does not reach."""


def open_training(session: Session) -> Training:
    """Wrap the model, after checking on one real sample that model, loss and data fit each other."""
    config, group = session.spec.config, session.group
    batchnorm.refuse_single_samples(
        session.model, session.batches, group.world_size, config.data.max_micro_batch
    )
    session.model.train()
    x, y = _first_sample(session)
    unused = _check_contract(session, x, y)
    optimizer = build_optimizer(config.optimizer, session.model)
    wrapped = _wrap(session, unused=bool(unused))
    if group.world_size > 1:
        warm_up(wrapped, session.loss, x, y)
    optimizer.zero_grad(set_to_none=True)
    steps = config.train.epochs * session.batches.steps
    steps = min(steps, config.train.max_steps or steps)
    return Training(
        session=session,
        optimizer=optimizer,
        names={id(parameter): name for name, parameter in trainable(session.model)},
        schedule=Schedule(config.schedule, optimizer, steps),
        stepper=Stepper(wrapped, session.loss, optimizer, group, session.numerics.scaler()),
        steps=steps,
        unused=unused,
    )


def _first_sample(session: Session) -> tuple[Any, Any]:
    """The first sample of epoch 0, the same on every rank, as a batch of one (two under batch norm)."""
    whole = EpochOrder(session.batches.n, session.spec.config.train.seed, 0).indices(0, 1)
    indices = np.resize(whole, session._stand_in_size)  # noqa: SLF001 - the same question, asked before training
    return next(session.train_feed.fetch(iter([Work(indices, [indices.size])]))).micro[0]


def _check_contract(session: Session, x: Any, y: Any) -> list[str]:
    """Run one sample through model and loss; the names of parameters that get no gradient.

    Raises:
        TrainingError: the model's output does not fit the loss or the targets.
    """
    try:
        output = warm_up(session.model, session.loss, x, y)
    except TrainingError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise TrainingError(
            f"model and data do not fit: {type(error).__name__}: {error}\n"
            f"the first batch is {_shape(x)} with targets {_shape(y)}",
            "make the model accept this input and the loss this target; `launch show` tells the shapes",
        ) from error
    _check_classes(session, output)
    unused = [name for name, parameter in trainable(session.model) if parameter.grad is None]
    session.model.zero_grad(set_to_none=True)
    return unused


def _check_classes(session: Session, output: Any) -> None:
    if session.spec.config.loss.use != "cross_entropy":
        return
    classes = session.spec.facts.classes
    if not isinstance(output, torch.Tensor) or output.ndim < 2:  # noqa: PLR2004 - batch and classes
        raise TrainingError(
            f"the model returned {_shape(output)}, but cross_entropy needs scores of shape (batch, classes)",
            "end the model with one output for each class",
        )
    if classes is not None and output.shape[1] < classes:
        raise TrainingError(
            f"the model returned {_shape(output)}: {output.shape[1]} scores, but {session.spec.facts.name} has"
            f" {classes} classes",
            "end the model with one output for each class",
        )


def _shape(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return type(value).__name__


def _wrap(session: Session, *, unused: bool) -> nn.Module:
    """Mixed precision and DDP, both by Accelerate, which adopts the process group that is already there."""
    threads = torch.get_num_threads()
    handler = DistributedDataParallelKwargs(
        broadcast_buffers=False,  # buffers stay each rank's own; see batchnorm.py
        gradient_as_bucket_view=True,
        find_unused_parameters=unused,
    )
    with warnings.catch_warnings():
        # torch 2.15 renamed it; 2.11 knows only this name, and buffers of equal seeds need no broadcast at all.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers.*", category=FutureWarning)
        accelerator = Accelerator(
            mixed_precision=session.numerics.accelerate_name,
            cpu=session.group.device.type == "cpu",
            kwargs_handlers=[handler],
        )
        wrapped: nn.Module = accelerator.prepare_model(session.model)
    torch.set_num_threads(threads)  # Accelerate sets its own on a CPU
    return wrapped

"""From the config's ``model:`` section to the model that is trained, and what its output has to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ...data.common import TrainingError, UsageError
from ...data.samples import describe_value
from ..components import (
    Compilation,
    MixedPrecision,
    build_model,
    fit_head,
    make_embeddings_dense,
    recompute,
    synchronised,
)
from ..config import ModelConfig, RunSpec
from ..losses import ignored_label, needs_classes
from ..rank import Group
from ..tensors import materialise_expanded_buffers
from .first_batch import first_batch
from .session import Session

_IMAGE_AXES = 4


def make_model(spec: RunSpec, numerics: MixedPrecision, group: Group) -> tuple[nn.Module, list[str]]:
    """Build the model on its device; return it, and what was made of its settings, for users.

    Raises:
        UsageError: settings contradict each other, or are of a model of another kind.
    """
    config = spec.config.model
    model = build_model(config, spec.facts, spec.base)
    notes = [*fit_head(model, config, spec.facts), *make_embeddings_dense(model)]
    model = numerics.prepare(model)
    materialise_expanded_buffers(model)
    if config.channels_last:
        _lay_channels_last(model)
    if config.sync_batch_norm:
        _refuse_small_passes(spec, group)
        model = synchronised(model, group)
    if config.checkpointing:
        _refuse_compilation(spec)
        notes += recompute(model, config.checkpointing)
    return model, notes


def _lay_channels_last(model: nn.Module) -> None:
    weights = [parameter for parameter in model.parameters() if parameter.ndim == _IMAGE_AXES]
    if not weights:
        raise UsageError("model.channels_last: the model has no two-dimensional convolution", "leave it out")
    for parameter in weights:
        parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _refuse_small_passes(spec: RunSpec, group: Group) -> None:
    """Refuse what would not be the global batch's statistics, or have ranks wait for a pass that others do not make."""
    data = spec.config.data
    share = -(-min(data.batch_size, spec.facts.epoch_size) // group.world_size)
    if share > (data.micro_limit or share):
        raise UsageError(
            f"model.sync_batch_norm goes by the whole batch, but data.max_micro_batch={data.max_micro_batch} cuts"
            f" a rank's {share} samples",
            "raise data.max_micro_batch, use more processes, or leave model.sync_batch_norm out",
        )
    if spec.facts.epoch_size % data.batch_size == 1 or data.batch_size == 1:
        raise UsageError(
            "model.sync_batch_norm: some batch is a single sample, which has no variance",
            "change data.batch_size or data.val_size, or use group norm",
        )


def _refuse_compilation(spec: RunSpec) -> None:
    if spec.config.train.compile:
        raise UsageError(
            "model.checkpointing and train.compile do not go together: the compiler chooses itself what is kept",
            "leave one of them out",
        )


def make_frozen(spec: RunSpec, numerics: MixedPrecision) -> dict[str, nn.Module]:
    """Build the models that a step gets and that are not trained; what they are loaded with comes later."""
    found = {}
    for name, section in spec.config.model.frozen.items():
        config = ModelConfig(**section.model_dump())
        model = build_model(config, spec.facts, spec.base)
        fit_head(model, config, spec.facts)
        model = numerics.prepare(model).requires_grad_(requires_grad=False).eval()
        materialise_expanded_buffers(model)
        found[name] = model
    return found


@contextmanager
def refusing_uncompiled(session: Session) -> Iterator[None]:
    """Refuse ``train.compile`` where what is trained inside does not call the model: its calls are what is compiled.

    Raises:
        UsageError: a step goes by methods or parts of the model alone.
    """
    calls: list[bool] = []
    handle = session.model.register_forward_pre_hook(lambda *_: calls.append(True))
    try:
        yield
    finally:
        handle.remove()
    if session.spec.config.train.compile and not calls:
        raise UsageError(
            "train.compile: the step goes by methods or parts of the model, and nothing of it would be compiled",
            "call the model itself, model(...), from its forward; or leave train.compile out",
        )


def compile_steps(session: Session) -> Compilation | None:
    """Have the model's steps compiled, where ``train.compile`` says so; each is when the first of its shape is taken.

    Called when all that is tried beforehand is over: a batch of a shape that no step has is not worth a program.
    """
    mode = session.spec.config.train.compile
    if not mode:
        return None
    return Compilation(session.model, "default" if mode is True else mode, session.group.device)


def check_classes(session: Session, output: Any) -> None:
    """Check that there is one score per class; where the data set does not know its classes, the model does.

    Raises:
        TrainingError: there is not.
    """
    loss = session.spec.config.trained_loss
    if loss is None or not needs_classes(loss):
        return
    facts = session.spec.facts
    if not isinstance(output, torch.Tensor) or output.ndim < 2:  # noqa: PLR2004 - batch and classes
        raise TrainingError(
            f"the model returned {_shape(output)}, but {loss.use} needs scores of shape (batch, classes)",
            "end the model with one output for each class",
        )
    scores = output.shape[1]
    if scores < 2:  # noqa: PLR2004 - a choice
        raise TrainingError(
            f"the model returned {_shape(output)}: {loss.use} chooses between two classes or more",
            "end the model with one output for each class",
        )
    if facts.kind == "user" or facts.classes is None:
        for feed in (session.train_feed, *session.val_feeds.values()):
            feed.expect_classes(scores, ignored_label(loss))
        first_batch(session)  # it was read before anything was expected
    elif scores < facts.classes:
        raise TrainingError(
            f"the model returned {_shape(output)}: {scores} scores, but {facts.name} has {facts.classes} classes",
            "end the model with one output for each class",
        )


def shapes(batch: Any) -> str:
    """Describe the shapes of a batch, for messages."""
    if isinstance(batch, list | tuple) and len(batch) == 2:  # noqa: PLR2004 - a pair
        return f"the first batch is {_shape(batch[0])} with targets {_shape(batch[1])}"
    return f"the first batch is {_shape(batch)}"


def _shape(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return describe_value(value)

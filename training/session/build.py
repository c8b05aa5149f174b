"""Everything that a rank builds before its first step, from the spec and the group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils._pytree import tree_leaves

from ...data.bad_samples import Skipping, skipping
from ...data.common import LockstepError, TrainingError, UsageError, user_location
from ...data.loading import Feed, Normalisation, augmentation, build_normalisation, open_feed
from ...data.order import EpochBatches, FullOrder
from ...data.sets import open_order, open_split
from ..components import (
    MixedPrecision,
    batch_norm,
    choose_precision,
    learned_tensors,
    non_finite,
    refuse_extra_state,
    take_rank_0s,
)
from ..config import RunSpec
from ..logical import LogicalBuffers
from ..losses import StepModule, StepsInTurn, build_objective, ignored_label, needs_classes
from ..metrics import build_confusion_matrix, build_metrics
from ..optim import Ema
from ..parallel import BlockOrder, wrap
from ..rank import GatherTrial, Group, gathering
from ..tensors import ParameterWatch, PlainAttributes, refuse_unregistered, trainable
from .evaluation_trial import EvaluationTrial, evaluation_mode, evaluation_notes, try_evaluation
from .first_batch import FIRST_BATCH_SAMPLES, first_batch
from .logical_step import LogicalCut, LogicalStep
from .model_making import (
    check_classes,
    compile_steps,
    make_frozen,
    make_model,
    refusing_uncompiled,
    shapes,
)
from .optimizers import Optimizers, build_optimizers, freeze_all
from .session import Session
from .step_seeding import seed_initialisation
from .train_step import AlternatingStep, TrainStep, Turn, refuse_gathered_micro_batches, try_step
from .training import Training, measure_steps, train_metrics_notes
from .training_trial import (
    TrainingTrial,
    refuse_own_learning,
    training_notes,
    try_training,
    world_size_dependence,
)

_SHARED_FLOPS = 2e8


def build_session(
    spec: RunSpec,
    group: Group,
    *,
    training: bool = True,
    splits: tuple[str, ...] | None = None,
    inputs: Callable[[Normalisation], Feed] | None = None,
    folder: Path | None = None,
) -> Session:
    """Build the model and open the data.

    Args:
        spec: of the run.
        group: whose ranks all call it.
        training: False starts no workers for a feed that is never read.
        splits: to be evaluated; None is the validation sets.
        inputs: opens a feed of inputs in place of the training set, which need not be there then.
        folder: of the run, where it keeps a record of bad samples.
    """
    config = spec.config
    _set_determinism(deterministic=config.train.deterministic)
    numerics = choose_precision(config.train.precision, group.device)
    seed_initialisation(config.train.seed)
    model, notes = make_model(spec, numerics, group)
    batches = EpochBatches(spec.facts.epoch_size, config.data.batch_size, config.train.logical_ranks)
    feed = _opener(spec, group, numerics, folder, training=training)
    metrics = build_metrics(config, spec.base, group.device)
    frozen = make_frozen(spec, numerics)
    objective = build_objective(config, spec.base, frozen)
    if config.train.logical_ranks and group.device.type == "cpu":
        torch.set_num_threads(1)  # sums on several threads depend on their number
    return Session(
        spec=spec,
        group=group,
        numerics=numerics,
        model=model,
        frozen=frozen,
        objective=objective,
        module=objective.callable_module(model),
        metrics=metrics,
        confusions=build_confusion_matrix(config, metrics),
        batches=batches,
        order=FullOrder(batches.n) if inputs else open_order(spec.facts, config.data, spec.base),
        train_feed=feed("train")
        if inputs is None
        else inputs(build_normalisation(spec.facts, numerics.dtype, group.device)),
        val_feeds={split: feed(split) for split in (spec.facts.validation if splits is None else splits)},
        non_finite=frozenset(non_finite(learned_tensors(model))),
        notes=notes,
    )


def _opener(
    spec: RunSpec, group: Group, numerics: MixedPrecision, folder: Path | None, *, training: bool
) -> Callable[[str], Feed]:
    """Return what opens the feed of a split."""
    config = spec.config
    known = needs_classes(config.trained_loss) and spec.facts.kind != "user"
    classes = spec.facts.classes if known else None
    any_part = config.step is not None
    normalise = build_normalisation(spec.facts, numerics.dtype, group.device, targets=any_part)
    skips = Skipping(config.data.max_bad, config.train.seed, folder) if config.data.on_bad == "skip" else None

    # A small model leaves all cores of this rank but one idle.
    spare = torch.get_num_threads() > 1

    def feed(which: str) -> Feed:
        split = skipping(open_split(spec.facts, which, config.data, spec.base), which, skips)
        if config.data.target != getattr(split, "target", None):
            raise UsageError(
                f"data.target={config.data.target}: the samples of {spec.facts.name} are pairs already",
                "leave it out; it is for samples that are dicts",
            )
        opened = open_feed(
            split,
            normalise,
            group.device,
            workers=config.data.workers if training or which != "train" else 0,
            classes=None,
            seed=config.train.seed,
            prefetch=spare,
            augment=augmentation(config.data.augment, config.train.seed, spec.base, spec.facts.classes)
            if which == "train"
            else None,
        )
        if classes is not None:
            opened.expect_classes(classes, ignored_label(config.trained_loss))
        return opened

    return feed


def build_training(session: Session) -> Training:
    """Wrap the model, after checking on one real sample that model, loss and data fit each other."""
    config, group = session.spec.config.with_directions(), session.group
    freeze_all(session, config)
    session.model.train()
    batch = first_batch(session)
    attributes = PlainAttributes(session.model)  # what is tried leaves nothing behind
    order = _block_order(session)
    with order.learning(group) if order is not None else nullcontext():
        with gathering(gather := GatherTrial()):
            trial, unused, terms = _check_first_batch(session, batch)
        _refuse_what_cannot_be_cut(session, gather)
        evaluated = [_check_evaluation(session, split) for split in session.val_feeds]
    refuse_own_learning(session, trial)
    attributes.restore()
    trial.restore_weights()
    length = config.train.run_length(session.batches.steps)
    scaler = session.numerics.scaler()
    add_autocast(session)
    if config.train.logical_ranks:
        wrapped = session.module
        take_rank_0s((*wrapped.parameters(), *wrapped.buffers()), group)  # as DDP does
    else:
        wrapped = wrap(session.module, session.model, config, group, unused, order)
    optimizers = build_optimizers(session, config, length, scaler)  # after FSDP, which makes other parameters
    late = ParameterWatch(session.model)
    stepper = _build_stepper(session, wrapped, optimizers, scaler, terms, trial.written)
    stepper.open_gather(gather)
    if group.world_size > 1 or config.train.elastic is not None:
        stepper.warm_up(batch, FIRST_BATCH_SAMPLES)
    session.model.zero_grad(set_to_none=True)
    attributes.restore()
    trial.restore_weights()
    return Training(
        session=session,
        optimizers=optimizers.built,
        optimizer_state=optimizers.state,
        names=optimizers.names,
        schedule=optimizers.schedule,
        stepper=stepper,
        ema=Ema(config.train.ema, trainable(session.model, every_name=True)),
        steps=length.steps,
        unused=unused,
        terms=measure_steps(stepper, session, terms),
        depends_on_world=[] if config.train.logical_ranks else world_size_dependence(session.model, trial),
        notes=_notes(session, optimizers, trial, evaluated),
        flops=trial.flops / FIRST_BATCH_SAMPLES,
        compilation=compile_steps(session),
        late=late,
    )


def _block_order(session: Session) -> BlockOrder | None:
    """Return the order of blocks that every pass is to keep, where FSDP gathers them."""
    if session.spec.config.train.strategy == "ddp" or session.group.world_size == 1:
        return None
    steps = session.objective
    if not isinstance(steps, StepsInTurn):
        return BlockOrder(session.module, session.model)
    return BlockOrder(session.module, session.model, lambda: steps.parts, lambda: steps.running)


def _refuse_what_cannot_be_cut(session: Session, gather: GatherTrial) -> None:
    """Refuse a step that gathers where a rank's samples are not passed at once, and single samples in batch norms."""
    config, world_size = session.spec.config, session.group.world_size
    share = -(-session.batches.batch_size // world_size)
    if gather.used and share > (config.data.micro_limit or share):
        refuse_gathered_micro_batches(share)
    batch_norm.refuse_single_sample_batches(
        session.model, session.batches, config.train.logical_ranks or world_size, config.data.micro_limit
    )


def _notes(
    session: Session, optimizers: Optimizers, trial: TrainingTrial, evaluated: list[EvaluationTrial]
) -> list[str]:
    """Return what users should know before the first step."""
    return [
        *session.notes,
        *optimizers.notes,
        *training_notes(session, trial),
        *train_metrics_notes(session),
        *dict.fromkeys(
            note for trial in evaluated for note in evaluation_notes(trial, session.fixed_batch_size)
        ),
    ]


def _build_stepper(
    session: Session,
    wrapped: nn.Module,
    optimizers: Optimizers,
    scaler: torch.amp.GradScaler | None,
    terms: tuple[str, ...],
    written: frozenset[str],
) -> TrainStep | AlternatingStep:
    objective, group = session.objective, session.group
    if session.spec.config.train.logical_ranks:
        return _build_logical_step(session, wrapped, optimizers, scaler, terms, written)
    whole = TrainStep(
        wrapped, objective, optimizers.update, group, scaler, terms, freezing=optimizers.freezing
    )
    whole.max_micro_batch = session.spec.config.data.micro_limit
    if not isinstance(objective, StepsInTurn):
        return whole
    turns = []
    for step, names in zip(session.spec.config.steps, objective.term_names, strict=True):
        update = optimizers.updates[step.optimizer] if step.optimizer else optimizers.update
        own = TrainStep(wrapped, objective, update, group, scaler, names, exchange=whole.exchange)
        own.max_micro_batch = whole.max_micro_batch
        turns.append(Turn(own, step.every, update.parameters))
    return AlternatingStep(objective, whole, turns)


def _build_logical_step(
    session: Session,
    module: nn.Module,
    optimizers: Optimizers,
    scaler: torch.amp.GradScaler | None,
    terms: tuple[str, ...],
    written: frozenset[str],
) -> LogicalStep:
    """Build the step of a run with ``train.logical_ranks``."""
    config = session.spec.config
    step = LogicalStep(
        module,
        session.objective,
        optimizers.update,
        session.group,
        scaler,
        terms,
        freezing=optimizers.freezing,
        cut=LogicalCut(
            config.train.logical_ranks or 1, config.train.seed, LogicalBuffers(session.model, written)
        ),
    )
    step.max_micro_batch = config.data.micro_limit
    return step


def _check_first_batch(session: Session, batch: Any) -> tuple[TrainingTrial, list[str], tuple[str, ...]]:
    """Run two samples through model and loss.

    Returns:
        What that shows, the names of parameters without a gradient, and those of the terms besides the loss.

    Raises:
        TrainingError: the model's output does not fit the loss or the targets.
    """
    parameters = trainable(session.model)
    refuse_extra_state(session.model)
    inputs = session.objective.inputs(batch)
    with _fitting("", inputs, f"\n{shapes(batch)}"):
        trial = try_training(session, inputs)
        _choose_threads(session, trial.flops / FIRST_BATCH_SAMPLES)
        check_classes(session, trial.output)
        with refusing_uncompiled(session):
            outcome = try_step(session.model, session.module, session.objective, batch, FIRST_BATCH_SAMPLES)
        refuse_unregistered(session.model, tree_leaves([outcome.loss, outcome.terms]))
    unused = [name for name, parameter in parameters if parameter.grad is None]
    session.model.zero_grad(set_to_none=True)
    return trial, unused, tuple(outcome.terms)


def _check_evaluation(session: Session, split: str) -> EvaluationTrial:
    """Evaluate a few validation samples: metrics and loss see what the model returns in evaluation, which may be less.

    Raises:
        TrainingError: loss or metrics do not take it.
    """
    with _fitting(" in evaluation"), evaluation_mode(session) as (draws, kept):
        return try_evaluation(session, draws, kept, split, repeat=True)


@contextmanager
def _fitting(when: str, inputs: Any = None, shapes: str = "") -> Iterator[None]:
    """Say what torch's own errors mean at this point."""
    try:
        yield
    except LockstepError:
        raise
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        stored = any(getattr(leaf, "dtype", None) == torch.uint8 for leaf in tree_leaves(inputs))
        bytes_hint = "; uint8 stays uint8, unless data.scale_uint8=true makes it 0 to 1" if stored else ""
        raise TrainingError(
            f"model and data do not fit{when}: {type(error).__name__}: {error}\nat {user_location(error)}{shapes}",
            "make the model accept this input and the loss this target; `launch show` tells the shapes"
            + bytes_hint,
        ) from error


def _choose_threads(session: Session, flops: float) -> None:
    """Use one thread where a step is too small to share; model and batch shares decide, so that bits stay equal.

    Measured on two cores: a step of 39 MFLOP took 0.68 ms on one thread and 1.45 ms on two; of 312 MFLOP,
    3.1 ms and 2.7 ms.

    Args:
        session: on the CPU.
        flops: of one sample's forward pass; backward costs twice as many.
    """
    share = -(-session.batches.batch_size // session.group.world_size)
    share = min(share, session.spec.config.data.micro_limit or share)
    if session.group.device.type == "cpu" and 3 * flops * share < _SHARED_FLOPS:
        torch.set_num_threads(1)


def _set_determinism(*, deterministic: bool) -> None:
    if deterministic != torch.are_deterministic_algorithms_enabled():  # torch imports its compiler for this
        torch.use_deterministic_algorithms(deterministic)


def add_autocast(session: Session) -> None:
    """Let Accelerate give the model its autocast; what was trained with it is evaluated with it, too."""
    threads = torch.get_num_threads()
    accelerator = Accelerator(
        mixed_precision=session.numerics.accelerate_name, cpu=session.group.device.type == "cpu"
    )
    accelerator.prepare_model(session.model, evaluation_mode=True)  # DDP sees more than the model
    if isinstance(session.module, StepModule):
        session.module.autocast = session.numerics.autocast
    torch.set_num_threads(threads)  # Accelerate sets its own on a CPU

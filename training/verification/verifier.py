"""Ranks that hold the same state compare it every few steps, without a step that waits for it.

Digests go over the ranks by one small reduction, which is read when the next ones are sent, and before each checkpoint:
none is written of a state that ranks do not agree on.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...data.common import DivergedError
from ...data.samples import as_bytes
from ..session import StepSeeder, Training
from ..tracking import EventLog
from .digests import StateDigest
from .divergence_error import Difference, Verdict, diverged_error, place_of
from .verdict import Rows, differing_tensors, first_to_differ, not_repeated, outvoted

Tensors = dict[str, torch.Tensor]
Losses = list[torch.Tensor]
"""Of a rank in a step, one for each of its passes of logical ranks."""
MOST_RETAKEN = 5_000
"""Steps that are taken again at most: they last as long as they did, and the run is over."""
_NEVER = 2**62
_PAIR = 2  # ranks of which neither is outvoted


@dataclass
class _Sent:
    """Digests that are on their way over the ranks."""

    step: int
    names: list[str]
    own: torch.Tensor
    extremes: torch.Tensor
    """[2, tensors]: the largest digest of any rank, and of the complements."""
    handle: Any
    differs: torch.Tensor | None = None
    """On the host, where the digests are on a GPU."""


class _DisagreementError(Exception):
    """Ranks that hold other bits; ``rows`` are the digests of each."""

    def __init__(self, step: int, names: list[str], rows: Rows) -> None:
        super().__init__(f"ranks differ after step {step}")
        self.step, self.names, self.rows = step, names, rows


class Verifier:
    """Compares the ranks; all of them call it at the same steps.

    Args:
        training: on two ranks or more.
        every: steps between two comparisons.
        events: rank 0's record.
        step: of the run, where this attempt begins.
        touch: gives a sign of life.
        checkpoint: returns the step of the newest that is written, on rank 0; None for none.
    """

    def __init__(
        self,
        training: Training,
        every: int,
        events: EventLog,
        step: int,
        touch: Callable[[], None],
        checkpoint: Callable[[], int | None],
    ) -> None:
        self._training, self._every, self._events = training, every, events
        self._touch, self._checkpoint = touch, checkpoint
        self._group = training.session.group
        self._digest = StateDigest(self._group.device)
        self._sent: _Sent | None = None
        self._begun = step
        self._agreed: int | None = None
        # Of more than two, the one that differs is outvoted: nothing has to be taken again.
        self._kept = KeptState(training, step) if self._group.world_size == _PAIR else None
        self._losses: list[Losses] = []
        """Of this rank in the steps since all ranks agreed last."""

    @classmethod
    def of_run(
        cls,
        training: Training,
        events: EventLog,
        step: int,
        touch: Callable[[], None],
        checkpoint: Callable[[], int | None],
    ) -> Verifier | None:
        """Build what ``train.verify_every`` asks for; None where that is nothing, or nothing is there to compare."""
        every = training.session.spec.config.train.verify_every
        if every is None or training.session.group.world_size == 1:
            return None
        return cls(training, every, events, step, touch, checkpoint)

    def add(self, step: int) -> None:
        """Count a step; compare where it is time."""
        if self._kept is not None:
            self._losses.append(self._training.stepper.own_losses)
        if step % self._every == 0:
            sent = self._send(step)
            self._read()
            self._sent = sent

    def pause(self) -> None:
        """Note that something else than a step follows, as an evaluation: a checkpoint compares anew after it."""
        self._read()

    def verify(self, step: int) -> None:
        """Compare before a checkpoint, and wait for it. Collective."""
        if self._sent is None or self._sent.step != step:
            self._read()
            self._sent = self._send(step)
        self._read()
        if self._kept is not None:
            self._kept = KeptState(self._training, step)

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Find out which rank is wrong, where ranks come to differ.

        Raises:
            DivergedError: they do.
        """
        try:
            yield
        except _DisagreementError as found:
            traceback.clear_frames(found.__traceback__)  # ends what still fetches batches
            error = self._explain(found)
            raise error from None

    def _send(self, step: int) -> _Sent:
        with torch.no_grad():
            names, own = self._digest(replicated_tensors(self._training))
            # Complements, for a smallest number has no negative one.
            extremes = torch.stack([own, ~own])
        sent = _Sent(step, names, own, extremes, self._group.maximum_async(extremes))
        if (
            own.is_cuda
        ):  # copied on the stream, behind the reduction: reading waits for nothing that is queued later
            sent.handle.wait()
            differs = extremes[0] != ~extremes[1]
            sent.differs = torch.empty(len(differs), dtype=torch.bool, pin_memory=True)
            sent.differs.copy_(differs, non_blocking=True)
            sent.handle = torch.cuda.Event()
            sent.handle.record()
        return sent

    def _read(self) -> None:
        """Read the comparison that is under way.

        Raises:
            _DisagreementError: ranks differ; on all of them.
        """
        sent, self._sent = self._sent, None
        if sent is None:
            return
        if isinstance(sent.handle, torch.cuda.Event):
            sent.handle.synchronize()
        else:
            sent.handle.wait()
        differs = sent.extremes[0] != ~sent.extremes[1] if sent.differs is None else sent.differs
        if bool(differs.any()):
            raise _DisagreementError(sent.step, sent.names, self._group.gather(sent.own).tolist())
        del self._losses[: sent.step - self._compared]
        self._agreed = sent.step

    def _not_repeating(self, found: _DisagreementError, kept: KeptState) -> Verdict:
        """Take steps again; name the rank that comes to something else, or suspect the first one, where both do."""
        again = take_again(self._training, kept, found.step, self._touch)
        _, own = self._digest(replicated_tensors(self._training))
        ranks = not_repeated(found.rows, self._group.gather(own).tolist())
        if len(ranks) == 1:
            how = f"the steps after step {kept.step:,} were taken again, and it came to something else"
            return Verdict(ranks, how)
        if not ranks:
            return Verdict([], "both come to the same when the steps are taken again")
        if not self._is_deterministic:
            return Verdict([], "steps that are taken again give other numbers here (train.deterministic)")
        begin = self._compared - kept.step
        first = torch.tensor([first_other(self._losses, again[begin:])], device=self._group.device)
        suspected = first_to_differ(self._group.gather(first).flatten().tolist())
        if not suspected:
            return Verdict(
                [], "neither comes to the same when the steps are taken again, and no loss tells more"
            )
        how = "whose loss was the first to differ when the steps were taken again"
        return Verdict(suspected, how, is_suspicion=True)

    @property
    def _compared(self) -> int:
        """The step after which ``_losses`` begin."""
        return self._begun if self._agreed is None else self._agreed

    @property
    def _is_deterministic(self) -> bool:
        return self._group.device.type == "cpu" or self._training.session.spec.config.train.deterministic

    def _verdict(self, found: _DisagreementError) -> Verdict:
        if ranks := outvoted(found.rows):
            return Verdict(ranks, "most ranks agree, it does not")
        kept = self._kept
        if kept is None:
            return Verdict([], "no more than half of the ranks agree")
        if not kept.can_be_continued(self._training):
            return Verdict([], "an evaluation has changed the schedule since the last checkpoint")
        if (steps := found.step - kept.step) > MOST_RETAKEN:
            why = f"{steps:,} steps since the last copy are too many to be taken again ({MOST_RETAKEN:,} at most)"
            return Verdict([], why)
        return self._not_repeating(found, kept)

    def _explain(self, found: _DisagreementError) -> DivergedError:
        tensors = differing_tensors(found.names, found.rows)
        difference = Difference(found.step, self._agreed, self._begun, tensors)
        facts = {"agreed": difference.agreed, "tensors": tensors}
        # Before steps are taken again: who ends the run meanwhile does not take the fact with it.
        self._tell("diverged", found.step, **facts, message=difference.message)
        verdict = self._verdict(found)
        places = [place.decode() for place in self._group.gather_bytes(place_of(self._group.device).encode())]
        error = diverged_error(difference, verdict, places, self._newest_checkpoint())
        self._tell(
            "diverged_rank",
            found.step,
            ranks=verdict.ranks,
            places=[places[rank] for rank in verdict.ranks],
            is_suspicion=verdict.is_suspicion,
            message=error.message,
        )
        return error

    def _newest_checkpoint(self) -> int | None:
        """Return the step of rank 0's. Collective."""
        step = self._checkpoint() if self._group.rank == 0 else None
        steps = self._group.gather(torch.tensor([-1 if step is None else step], device=self._group.device))
        return None if (newest := int(steps[0])) < 0 else newest

    def _tell(self, event: str, step: int, **values: Any) -> None:
        self._events.write(event, step=step, **values)
        self._events.sync()


def replicated_tensors(training: Training) -> Tensors:
    """Return what is the same on every rank, by name: weights, the optimizer's state, averages.

    Buffers are among it with logical ranks only: else each rank's statistics are of its own samples. Those that no
    checkpoint has are left out: a table that grows to fit is as long as the longest sample that a rank has seen.
    """
    model = training.session.model
    tensors: Tensors = {f"weight {name}": parameter for name, parameter in model.named_parameters()}
    if training.session.spec.config.train.logical_ranks:
        tensors |= {f"buffer {name}": buffer for name, buffer in _persistent_buffers(model)}
    tensors |= {f"optimizer's {key}": tensor for key, tensor in training.optimizer_state.save()[0].items()}
    return tensors | {f"average of {name}": tensor for name, tensor in training.ema.tensors().items()}


def _persistent_buffers(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for path, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:  # noqa: SLF001 - torch has no other word of it
                yield f"{path}.{name}".lstrip("."), buffer


class KeptState:
    """The state of this rank between two steps, on the host.

    Args:
        training: whose state it is.
        step: steps done.
    """

    def __init__(self, training: Training, step: int) -> None:
        self.step = step
        self._model = _copies(_model_tensors(training))
        tensors, plain = training.optimizer_state.save()
        self._optimizer, self._plain = _copies(tensors), copy.deepcopy(plain)
        self._average = _copies(training.ema.tensors())
        self._schedule = copy.deepcopy(training.schedule.state())
        scaler = training.stepper.scaler
        self._scaler = None if scaler is None else copy.deepcopy(scaler.state_dict())

    def can_be_continued(self, training: Training) -> bool:
        """Say whether nothing but steps has changed the state since: an evaluation may have lowered the rate."""
        return bool(training.schedule.state() == self._schedule)

    def put_back(self, training: Training) -> None:
        """Give the training this state again."""
        with torch.no_grad():
            for name, tensor in _model_tensors(training).items():
                kept = self._model.get(name)
                if kept is not None and kept.shape == tensor.shape:  # else a table has grown since
                    tensor.copy_(kept)
        for optimizer in training.optimizers.values():
            optimizer.state.clear()
        training.optimizer_state.load(_copies(self._optimizer), copy.deepcopy(self._plain))
        training.ema.load(self._average)
        if training.stepper.scaler is not None and self._scaler is not None:
            training.stepper.scaler.load_state_dict(self._scaler)


def take_again(training: Training, kept: KeptState, last: int, touch: Callable[[], None]) -> list[Losses]:
    """Take the steps after ``kept`` again; return this rank's losses in each of them. Collective.

    Args:
        training: is left as it is after the last step.
        kept: the state before the first step.
        last: of the run.
        touch: gives a sign of life: no step is counted meanwhile.
    """
    kept.put_back(training)
    losses: list[Losses] = []
    session, step = training.session, kept.step
    draws = StepSeeder(session.spec.config.train.seed, session.group.rank, session.group.device)
    session.model.train()
    while step < last:
        epoch, at = divmod(step, session.batches.steps)
        for fetched in session.train_feed.fetch(session.train_work(epoch, at)):
            draws.reseed(step)
            training.begin_step(step)
            samples = 0 if fetched.work.stand_in else fetched.indices.size
            training.stepper.run(fetched, session.batches.size(step % session.batches.steps), samples)
            losses.append(training.stepper.own_losses)
            touch()
            step += 1
            training.ema.update(step)
            if step == last:
                break
    return losses


def first_other(losses: Sequence[Losses], again: Sequence[Losses]) -> int:
    """Return the first step in which a rank's losses differ in a bit; a large number for none."""
    pairs = enumerate(zip(losses, again, strict=False))
    return next((at for at, (one, other) in pairs if not _are_equal(one, other)), _NEVER)


def _are_equal(one: Losses, other: Losses) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(torch.equal(as_bytes(a), as_bytes(b)) for a, b in pairs)


def _model_tensors(training: Training) -> Mapping[str, torch.Tensor]:
    model = training.session.model
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _copies(tensors: Mapping[str, Any]) -> Tensors:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

"""Ranks that hold the same state compare it every so many steps, without a step that waits for it.

Digests go over the ranks by one small reduction, which is read when the next ones are sent, and before each checkpoint:
none is written of a state that ranks do not agree on.
"""

from __future__ import annotations

import copy
import socket
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ...data.common import DivergedError
from ...data.samples import as_bytes
from ..session import StepSeeder, Training
from ..tracking import EventLog
from .digests import StateDigest
from .verdict import Rows, differing_tensors, first_to_differ, not_repeated, outvoted

Tensors = dict[str, torch.Tensor]
_NAMED = 3  # tensors at most
_PAIR = 2  # ranks of which neither is outvoted
_NEVER = 2**62


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
        verified: whether there is a checkpoint of it.
    """

    def __init__(
        self, training: Training, every: int, events: EventLog, step: int, *, verified: bool
    ) -> None:
        self._training, self._every, self._events = training, every, events
        self._group = training.session.group
        self._digest = StateDigest(self._group.device)
        self._sent: _Sent | None = None
        self._agreed = step
        self._checkpoint = step if verified else None
        # Of more than two, the one that differs is outvoted: nothing has to be taken again.
        self._kept = KeptState(training, step) if self._group.world_size == _PAIR else None
        self._losses: list[torch.Tensor] = []
        """Of this rank in the steps since then."""

    @classmethod
    def of_run(cls, training: Training, events: EventLog, step: int, *, verified: bool) -> Verifier | None:
        """Build what ``train.verify_every`` asks for; None where that is nothing, or nothing is there to compare."""
        every = training.session.spec.config.train.verify_every
        alone = training.session.group.world_size == 1
        return None if every is None or alone else cls(training, every, events, step, verified=verified)

    def add(self, step: int) -> None:
        """Count a step; compare where it is time."""
        if self._kept is not None:
            self._losses.append(self._training.stepper.own_loss)
        if step % self._every == 0:
            sent = self._send(step)
            self._read()
            self._sent = sent

    def verify(self, step: int) -> None:
        """Compare before a checkpoint, and wait for it. Collective."""
        self._read()
        self._sent = self._send(step)
        self._read()
        self._checkpoint = step
        if self._kept is not None:
            self._kept, self._losses = KeptState(self._training, step), []

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
        self._agreed = sent.step

    def _not_repeating(self, found: _DisagreementError, kept: KeptState) -> list[int]:
        """Take steps again; return the rank that comes to something else, or that was the first to, where both do."""
        losses = take_again(self._training, kept, found.step)
        _, again = self._digest(replicated_tensors(self._training))
        ranks = not_repeated(found.rows, self._group.gather(again).tolist())
        first = torch.tensor([_first_other(self._losses, losses)], device=self._group.device)
        firsts = self._group.gather(first).flatten().tolist()
        return ranks if len(ranks) == 1 else first_to_differ(firsts)

    def _explain(self, found: _DisagreementError) -> DivergedError:
        ranks, how = outvoted(found.rows), "most ranks agree, it does not"
        if not ranks and self._kept is not None and self._kept.can_be_continued(self._training):
            ranks = self._not_repeating(found, self._kept)
            how = f"the steps after step {self._kept.step} were taken again, and it came to something else"
        places = [place.decode() for place in self._group.gather_bytes(_place(self._group.device).encode())]
        tensors = differing_tensors(found.names, found.rows)
        facts = {
            "agreed": self._agreed,
            "ranks": ranks,
            "places": [places[rank] for rank in ranks],
            "tensors": tensors,
        }
        self._events.write("diverged", step=found.step, **facts)
        self._events.sync()
        return _error(found, self._agreed, [(rank, places[rank]) for rank in ranks], how, self._checkpoint)


def _first_other(losses: list[torch.Tensor], again: list[torch.Tensor]) -> int:
    """Return the first place where two lists differ in a bit."""
    pairs = enumerate(zip(losses, again, strict=False))
    return next((at for at, (one, other) in pairs if not torch.equal(as_bytes(one), as_bytes(other))), _NEVER)


def _error(
    found: _DisagreementError, agreed: int, wrong: list[tuple[int, str]], how: str, checkpoint: int | None
) -> DivergedError:
    tensors = differing_tensors(found.names, found.rows)
    shown = ", ".join(tensors[:_NAMED]) + (
        f" and {len(tensors) - _NAMED} more" if len(tensors) > _NAMED else ""
    )
    when = f"after step {found.step:,} {shown} differ; after step {agreed:,} all ranks were equal"
    again = (
        "resume the run: it has no checkpoint yet and begins at its first step"
        if checkpoint is None
        else f"resume the run: it goes on from step {checkpoint:,}, where the ranks were compared"
    )
    if not wrong:
        what = f"the ranks no longer hold the same state, and which of them is wrong cannot be told\n{when}"
        return DivergedError(what, f"{again}; use other devices, or three ranks, of which one is outvoted")
    names = " and ".join(f"rank {rank} ({place})" for rank, place in wrong)
    return DivergedError(
        f"{names} holds another state than it should: {how}\n{when}",
        f"{again}; do not use that device before it is tested",
    )


def _place(device: torch.device) -> str:
    """Return host and device in words."""
    what = f"GPU {device.index}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "CPU"
    return f"host {socket.gethostname()}, {what}"


def replicated_tensors(training: Training) -> Tensors:
    """Return what is the same on every rank, by name: weights, the optimizer's state, averages.

    Buffers are among it with logical ranks only: else each rank's statistics are of its own samples.
    """
    model = training.session.model
    tensors: Tensors = {f"weight {name}": parameter for name, parameter in model.named_parameters()}
    if training.session.spec.config.train.logical_ranks:
        tensors |= {f"buffer {name}": buffer for name, buffer in model.named_buffers()}
    tensors |= {f"optimizer's {key}": tensor for key, tensor in training.optimizer_state.save()[0].items()}
    return tensors | {f"average of {name}": tensor for name, tensor in training.ema.tensors().items()}


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
                tensor.copy_(self._model[name])
        for optimizer in training.optimizers.values():
            optimizer.state.clear()
        training.optimizer_state.load(_copies(self._optimizer), copy.deepcopy(self._plain))
        training.ema.load(self._average)
        if training.stepper.scaler is not None and self._scaler is not None:
            training.stepper.scaler.load_state_dict(self._scaler)


def take_again(training: Training, kept: KeptState, last: int) -> list[torch.Tensor]:
    """Take the steps after ``kept`` again, up to ``last`` of the run; return this rank's losses in them. Collective."""
    kept.put_back(training)
    losses: list[torch.Tensor] = []
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
            losses.append(training.stepper.own_loss)
            step += 1
            training.ema.update(step)
            if step == last:
                break
    return losses


def _model_tensors(training: Training) -> Mapping[str, torch.Tensor]:
    model = training.session.model
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _copies(tensors: Mapping[str, Any]) -> Tensors:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

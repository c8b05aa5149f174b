"""One optimizer step, or several in turn: micro-batches, backward, and the gradient as sum / global weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ...data.common import TrainingError, UsageError
from ...data.loading import StepBatch, Work
from ...data.order import micro_batch_sizes, shard
from ..components import make_gradients_dense, standing_in
from ..losses import Objective, Outcome, StepsInTurn, sum_loss, term_sums
from ..optim import Freezing, JointUpdate, Update
from ..parallel import GradientExchange, Replica, refuse_left_out
from ..rank import BatchShares, GatherTrial, Group, gathering, open_gather_group
from ..tensors import is_fsdp, own_parts
from .kept_buffers import preserved_buffers


class TrainStep:
    """Runs steps on one model; holds nothing that a resumed run would have to restore but the scaler.

    Args:
        model: as wrapped for training.
        objective: what is trained.
        update: of the model's parameters.
        group: the ranks.
        scaler: for fp16 only.
        terms: names of what the objective returns besides the loss.
        freezing: says which parameters have no part in a step.
        exchange: of a step of the same wrapped model; None makes one where it is needed.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        update: Update | JointUpdate,
        group: Group,
        scaler: torch.amp.GradScaler | None,
        terms: tuple[str, ...] = (),
        *,
        freezing: Freezing | None = None,
        exchange: GradientExchange | None = None,
    ) -> None:
        self.model = model
        self._objective = objective
        self._term_names = terms
        self._gather_group: Any = None
        self._gathers = False
        self.update = update
        self.freezing = freezing or Freezing()
        self._sharded = is_fsdp(model)
        self.max_micro_batch: int | None = None
        """Samples of a pass at most; under FSDP, ranks make equally many passes."""
        self._group = group
        self._replicas = group.world_size
        self._parameters = update.parameters
        self._seeds: dict[float, torch.Tensor] = {}
        replica = model.module if isinstance(model, DistributedDataParallel) else None
        if exchange is None and isinstance(replica, Replica):
            exchange = GradientExchange(replica)
        self.exchange = exchange
        self.scaler = scaler
        self.is_of_all = False
        """Whether loss, weight and terms are of all ranks, on each of them."""
        self.measured: tuple[Callable[[Any, Any], torch.Tensor], ...] = ()
        """What makes a row, sum and count, of the outputs of a step; in ``terms`` after those of the objective."""
        self.step, self.skips = 0, scaler is not None
        self.unreached: list[nn.Parameter] = []
        """Parameters that the last step left as they were: the loss reached them on no rank."""
        self.terms: torch.Tensor | None = None
        """Of the last step, on this rank: [terms, 2], sums with their weights, in float64; None for none."""
        self.norm_names = update.norm_names
        self.own_losses: list[torch.Tensor] = []
        """Sum of the last step over this rank's samples, or those of its logical ranks: what it alone has computed."""

    def run(self, batch: StepBatch, size: int, samples: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Take one step.

        Args:
            batch: this rank's micro-batches.
            size: samples of the global batch.
            samples: how many of them are this rank's; 0 makes ``batch`` a stand-in of weight 0.

        Returns:
            This rank's loss sum and its weight, detached; a weight of None is ``samples``.
        """
        for parameter in self._parameters:  # what zero_grad does, in 1.4 µs instead of 12.4
            parameter.grad = None
        self.terms = None
        if self._gathers:
            with gathering(self._shares(batch, size, samples)):
                summed, weight = self._passes(batch, size, samples)
        else:
            summed, weight = self._passes(batch, size, samples)
        self.own_losses = [summed]
        self._exchange_gradients(stand_in=samples == 0)
        if weight is not None:
            self._divide(weight)
        self._optimizer_step()
        return summed, weight

    @property
    def parts(self) -> list[TrainStep]:
        """Return the steps that it consists of."""
        return [self]

    @property
    def norms(self) -> list[torch.Tensor]:
        """Return the norms of the last gradient, by ``norm_names``."""
        return self.update.norms

    def open_gather(self, trial: GatherTrial) -> None:
        """Prepare for ``lockstep.gather``, where the objective has called it in a trial. Collective."""
        self._gathers = trial.used
        self._gather_group = open_gather_group(self._group.world_size) if trial.used else None

    def _passes(self, batch: StepBatch, size: int, samples: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        more = self._missing_passes(size, len(batch.micro)) if self._sharded else 0
        if samples == 0:
            return self._dummy_steps(batch, 1 + more)
        if len(batch.micro) == 1 and not more:
            return self._backward(batch, 0, size, None)
        return self._accumulate(batch, size, more)

    def _shares(self, batch: StepBatch, size: int, samples: int) -> BatchShares:
        """Return what ``lockstep.gather`` goes by in this step.

        Raises:
            UsageError: the batch is in micro-batches.
        """
        world_size = self._group.world_size
        cuts = [shard(0, size, rank, world_size) for rank in range(world_size)]
        sizes = [stop - start for start, stop in cuts]
        if len(batch.micro) > 1:
            refuse_gathered_micro_batches(max(sizes))
        return BatchShares(self._group.rank, sizes, samples == 0, self._gather_group)

    def _backward(
        self, batch: StepBatch, number: int, size: int, before: torch.Tensor | None, *, zero: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run forward and backward of a micro-batch; DDP's mean over ranks is undone by ``world_size``."""
        outcome = self._objective(self.model, batch.micro[number])
        summed, weight = sum_loss(outcome.loss, batch.work.micro[number])
        if outcome.terms or self._term_names or self.measured:
            self._add_terms(outcome, batch.work.micro[number], zero=zero)
        scale = 0.0 if zero else self._replicas / (size if weight is None else 1)
        root = summed if self.scaler is None else self.scaler.scale(summed)
        if self.exchange is not None:
            self.exchange.begin()
        if root.requires_grad:  # else no parameter was reached
            root.backward(self._gradient_seed(scale, root))
        elif self._sharded and any(parameter.requires_grad for parameter in self._parameters):
            refuse_left_out(["any parameter"])
        if zero:
            return summed.detach() * 0, None if weight is None else weight * 0
        return summed.detach(), weight if weight is None or before is None else before + weight

    def _add_terms(self, outcome: Outcome, samples: int, *, zero: bool) -> None:
        """Add the terms of a micro-batch to those of the step; those of a stand-in are zeros."""
        parts = []
        if outcome.terms or self._term_names:
            parts.append(term_sums(outcome.terms, self._term_names, samples))
        with torch.no_grad():
            parts += [row(outcome.output, outcome.target)[None] for row in self.measured]
        terms = parts[0] if len(parts) == 1 else torch.cat(parts)
        if zero:
            terms = torch.zeros_like(terms)
        self.terms = terms if self.terms is None else self.terms + terms

    def _exchange_gradients(self, *, stand_in: bool = False) -> None:
        """Sum over the ranks what their backward passes have left."""
        if self.exchange is not None:
            self.exchange.finish(stand_in=stand_in, frozen=self.freezing.frozen)
        self.unreached = [
            parameter
            for parameter in self._parameters
            if parameter.grad is None and parameter.requires_grad  # else it is frozen
        ]

    @property
    def waited(self) -> float:
        """Seconds that this rank has been in the exchange of gradients."""
        return 0.0 if self.exchange is None else self.exchange.waited

    def warm_up(self, batch: Any, samples: int) -> None:
        """Send gradients once before the first step, of which nothing is left: no gradient, buffer or draw.

        DDP lays out its buckets anew after its first backward. A resumed run would otherwise sum its first
        gradients in another order than the uninterrupted one did, which shows in the last bits on 3 ranks or more.
        """
        indices = np.zeros(samples, dtype=np.int64)
        with gathering(GatherTrial()):
            self._dummy_step(StepBatch([batch], indices, Work(indices, [samples])))
        self._exchange_gradients(stand_in=True)

    def _gradient_seed(self, scale: float, root: torch.Tensor) -> torch.Tensor:
        """Return the gradient that backward starts from: cheaper than scaling the loss, which autograd would record."""
        if scale not in self._seeds:
            self._seeds[scale] = torch.full_like(root, scale)
        return self._seeds[scale]

    def _accumulate(self, batch: StepBatch, size: int, more: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run the micro-batches, then ``more`` passes of nothing."""
        weight: torch.Tensor | None = None
        parts = []
        for number in range(len(batch.micro)):
            with self._without_all_reduce(last=not more and number == len(batch.micro) - 1):
                summed, weight = self._backward(batch, number, size, weight)
            parts.append(summed)
        if more:
            self._dummy_steps(batch, more)
        return torch.stack(parts).sum(), weight

    def _without_all_reduce(self, *, last: bool) -> AbstractContextManager[None]:
        """Send no gradients after a micro-batch but the last."""
        if self._sharded:
            cast("Any", self.model).set_requires_gradient_sync(last)
            return nullcontext()
        if last or not isinstance(self.model, DistributedDataParallel):
            return nullcontext()
        return self.model.no_sync()

    def _dummy_step(self, batch: StepBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Take part in the collectives with a gradient of zero, as a rank without a sample."""
        with standing_in(), preserved_buffers(self.model):
            return self._backward(batch, 0, 1, None, zero=True)

    def _dummy_steps(self, batch: StepBatch, count: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        for left in reversed(range(count)):
            with self._without_all_reduce(last=left == 0):
                result = self._dummy_step(batch)
        return result

    def _missing_passes(self, size: int, own: int) -> int:
        """Return how many passes other ranks make more: under FSDP, each gathers parameters from all ranks."""
        largest = -(-size // self._group.world_size)
        return len(micro_batch_sizes(largest, self.max_micro_batch)) - own

    def _divide(self, weight: torch.Tensor) -> None:
        """Divide the gradients of sums by the global weight, once it is known; no host sync."""
        everyone = self._group.sum(weight.to(torch.float64, copy=True))
        # Where nothing was asked of this batch, the gradient is zero.
        everyone = torch.where(everyone == 0, 1, everyone)
        gradients = own_parts([p.grad for p in self._parameters if p.grad is not None])
        if gradients:
            torch._foreach_div_(gradients, everyone.to(gradients[0].dtype))  # what torch's own optimizers use

    def _optimizer_step(self) -> None:
        self.update.apply()
        if self.scaler is not None:
            self.scaler.update()


def refuse_gathered_micro_batches(share: int) -> NoReturn:
    """Refuse to accumulate where a step looks at the whole batch: of other micro-batches nothing is there.

    Args:
        share: samples of the rank that has the most.
    """
    raise UsageError(
        f"data.max_micro_batch: the step calls lockstep.gather, which needs all {share} samples of a rank at once",
        f"leave data.max_micro_batch out, set it to {share} or more, or use more processes",
    )


@dataclass(frozen=True)
class Turn:
    """A step, and when it is taken."""

    stepper: TrainStep
    every: int
    parameters: list[nn.Parameter]
    """Of its optimizer."""


class AlternatingStep:
    """Takes each step whose turn it is: the parameters of other optimizers are frozen in it.

    Args:
        objective: the steps.
        whole: all of them as one, for what is done once.
        turns: in their order.
    """

    def __init__(self, objective: StepsInTurn, whole: TrainStep, turns: Sequence[Turn]) -> None:
        self._objective = objective
        self._turns = turns
        self._every = whole.update.parameters
        self.warm_up, self.model = whole.warm_up, whole.model
        self.freezing, self.scaler, self.update = whole.freezing, whole.scaler, whole.update
        self.norm_names = whole.norm_names
        self.is_of_all = False
        self.skips = whole.skips or any(turn.every > 1 for turn in turns)
        """Whether an update is left out at times, and the norm is not a number then."""
        self.step = 0
        """Of the run, counted from 0."""
        self.unreached: list[nn.Parameter] = []
        self.terms: torch.Tensor | None = None
        self.norms: list[torch.Tensor] = []

    def run(self, batch: StepBatch, size: int, samples: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Take the steps whose turn it is; see ``TrainStep.run``. The loss that is returned is the first one's."""
        self.unreached, self.norms = [], []
        results, terms = [], []
        for number, turn in enumerate(self._turns):
            taken = (self.step + 1) % turn.every == 0
            if taken:
                self._objective.turn = number
                self._admit(turn)
                results.append(turn.stepper.run(batch, size, samples))
                self.unreached += turn.stepper.unreached
            terms.append(self._terms_of(number, turn, results[0][0], taken=taken))
            self.norms += [norm if taken else norm.new_full((), torch.nan) for norm in turn.stepper.norms]
        self._objective.turn = None
        self._admit(None)
        self.terms = torch.cat(terms)
        return results[0]

    @property
    def parts(self) -> list[TrainStep]:
        """Return the steps that it consists of."""
        return [turn.stepper for turn in self._turns]

    def open_gather(self, trial: GatherTrial) -> None:
        """Prepare each step for ``lockstep.gather``. Collective."""
        for turn in self._turns:
            turn.stepper.open_gather(trial)

    @property
    def own_losses(self) -> list[torch.Tensor]:
        """Return what this rank has computed in the first step of the list, when its turn was last."""
        return self._turns[0].stepper.own_losses

    @property
    def waited(self) -> float:
        """Return the seconds that gradients were waited for; the steps share what counts them."""
        return self._turns[0].stepper.waited

    def _admit(self, turn: Turn | None) -> None:
        """Let the parameters of a turn be trained, and no others; None: all that are not frozen."""
        barred = {id(parameter) for parameter in self.freezing.frozen}
        own = {id(parameter) for parameter in (self._every if turn is None else turn.parameters)} - barred
        for parameter in self._every:
            parameter.requires_grad = id(parameter) in own
        if turn is not None:
            turn.stepper.freezing.frozen = [p for p in self._every if id(p) not in own]

    def _terms_of(self, number: int, turn: Turn, like: torch.Tensor, *, taken: bool) -> torch.Tensor:
        if taken and turn.stepper.terms is not None:
            return turn.stepper.terms
        rows = len(self._objective.term_names[number])
        return torch.zeros(rows, 2, dtype=torch.float64, device=like.device)


def try_step(model: nn.Module, module: nn.Module, objective: Objective, batch: Any, samples: int) -> Outcome:
    """Run a forward and a backward pass of weight 0, which leave no buffer behind, and gradients of zero.

    Args:
        model: whose buffers are kept.
        module: what is called; see ``Objective``.
        objective: what is trained.
        batch: of ``samples`` samples.
        samples: its size.

    Returns:
        What the pass gave, for checks.
    """
    with preserved_buffers(model):
        outcome = objective(module, batch)
        summed, _ = sum_loss(outcome.loss, samples)
        term_sums(outcome.terms, tuple(outcome.terms), samples) if outcome.terms else None
        if not summed.requires_grad:
            raise TrainingError(
                "the loss depends on no parameter: there is nothing to train by",
                "look for what cuts the model's output off: detach(), item(), argmax, torch.no_grad",
            )
        (summed * 0).backward()
    make_gradients_dense(model)
    return outcome

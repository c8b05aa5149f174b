"""A step that gives the same bits on any number of processes: see ``training/logical``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...data.common import UsageError
from ...data.loading import StepBatch
from ...data.order import logical_shards, micro_batch_sizes
from ..logical import (
    Gradients,
    GradientTree,
    LogicalBuffers,
    Node,
    PartialSums,
    begin_tree_sum,
    nodes_of_owners,
)
from ..losses import Objective, sum_loss
from ..optim import Freezing, JointUpdate, Update
from ..rank import GatherTrial, Group
from .kept_buffers import preserved_buffers
from .step_seeding import StepSeeder
from .train_step import TrainStep

_LOSS, _WEIGHT, _FIRST_TERM = 0, 1, 2  # places among the facts


@dataclass(frozen=True)
class LogicalCut:
    """The cut of a global batch into logical ranks, and what each begins with."""

    ranks: int
    """At least as many as processes."""
    seed: int
    """Of the run."""
    buffers: LogicalBuffers


@dataclass(frozen=True)
class StepResult:
    """The result of a step, which is counted once the step is done."""

    loss: torch.Tensor
    weight: torch.Tensor | None
    terms: torch.Tensor | None
    norms: list[torch.Tensor]
    unreached: list[nn.Parameter]


class LogicalStep(TrainStep):
    """Runs each logical rank's share as a pass of its own and adds what they give along one tree.

    Args:
        model: not wrapped.
        objective: what is trained.
        update: of the model's parameters.
        group: the ranks.
        scaler: for fp16 only.
        terms: names of what the objective returns besides the loss.
        freezing: says which parameters have no part in a step.
        cut: into logical ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        update: Update | JointUpdate,
        group: Group,
        scaler: torch.amp.GradScaler | None,
        terms: tuple[str, ...],
        *,
        freezing: Freezing | None = None,
        cut: LogicalCut,
    ) -> None:
        super().__init__(model, objective, update, group, scaler, terms, freezing=freezing)
        self._replicas, self.is_of_all = 1, True
        self._logical_ranks = cut.ranks
        self._seeders = [StepSeeder(cut.seed, number, group.device) for number in range(cut.ranks)]
        self._buffers = cut.buffers
        self._tree = GradientTree(self._parameters, group)
        self._all = torch.ones(len(self._parameters), dtype=torch.float64, device=group.device)
        self._nodes: dict[int, list[tuple[Node, ...]]] = {}
        """Of each rank, by the size of the global batch."""
        self._weighted = False
        self._waited = 0.0
        self.is_exchanging = self.can_be_undone = False
        """Whether all passes of a step are done, and its exchange is not; whether a step has changed nothing yet."""
        self.logical_rank: int | None = None
        """The one whose samples are passed through the model now."""

    @property
    def waited(self) -> float:
        """Seconds that this rank has been in the exchange of sums."""
        return self._waited

    def run(
        self,
        batch: StepBatch,
        size: int,
        samples: int,  # noqa: ARG002 - TrainStep's
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Take one step; see ``TrainStep.run``.

        Returns:
            Loss sum and weight of all ranks.
        """
        self.is_exchanging, self.can_be_undone = False, True
        for parameter in self._parameters:
            parameter.grad = None
        self.terms = None
        parts, complete = self._own_passes(batch, size)
        begun = time.perf_counter()
        self.is_exchanging = True
        self._tree.close()
        facts_sum = begin_tree_sum(parts, self._nodes_of(size), self._leaves(size), self._group)
        gradients = self._tree.total()
        facts = facts_sum()
        self._waited += time.perf_counter() - begun
        self.is_exchanging = self.can_be_undone = False
        self._buffers.take(facts[self._buffer_place :], size)
        self._set_gradients(gradients, facts, complete=complete)
        weight = facts[_WEIGHT] if self._weighted else None
        if weight is not None:
            self._divide(weight)
        self._optimizer_step()
        return self._for_meters(facts, weight)

    def undo(self) -> None:
        """Go back to where a step has begun, whose exchange has failed: nothing was updated yet."""
        self._tree.detach()
        self._buffers.restore()
        for parameter in self._parameters:
            parameter.grad = None
        self.logical_rank, self.can_be_undone = None, False

    def deal_anew(self, group: Group) -> None:
        """Deal the logical ranks to another group, between two steps."""
        self._tree.detach()
        self._group, self._nodes = group, {}
        self._tree = GradientTree(self._parameters, group)

    def warm_up(self, batch: Any, samples: int) -> None:
        """Find out whether the loss has weights of its own: a rank may have no sample to see it by."""
        with preserved_buffers(self.model):
            outcome = self._objective(self.model, batch)
            self._weighted = sum_loss(outcome.loss, samples)[1] is not None

    def open_gather(self, trial: GatherTrial) -> None:
        """Refuse ``lockstep.gather``: a logical rank sees nothing of the others."""
        if trial.used:
            raise UsageError(
                "train.logical_ranks: the step calls lockstep.gather, but a logical rank sees its own samples only",
                "leave train.logical_ranks out: a step that gathers sees the global batch on any number of processes",
            )

    @property
    def _term_count(self) -> int:
        return len(self._term_names) + len(self.measured)

    @property
    def _reached_place(self) -> int:
        return _FIRST_TERM + 2 * self._term_count

    @property
    def _buffer_place(self) -> int:
        return self._reached_place + len(self._parameters)

    def _own_passes(self, batch: StepBatch, size: int) -> tuple[list[torch.Tensor], bool]:
        """Pass each logical rank's samples through the model.

        Returns:
            The facts of this rank's nodes, and whether each pass has reached all parameters.
        """
        own, nodes = self._parts(size, self._group.rank), self._nodes_of(size)
        first = _leaves_before(own[0], size, self._logical_ranks) if own else 0
        facts = PartialSums[torch.Tensor](self._leaves(size), nodes[self._group.rank], torch.Tensor.add_)
        self._tree.open(self._leaves(size), nodes, first + len(own) - 1 if own else None)
        complete, at, losses = bool(own), 0, list[torch.Tensor]()
        self._buffers.begin()
        for leaf, (number, begin, end) in enumerate(own, first):
            self.logical_rank = number
            self._seeders[number].reseed(self.step)
            if leaf > first:
                self._buffers.restore()
            passes = len(micro_batch_sizes(end - begin, self.max_micro_batch))
            loss, weight = self._leaf(batch, leaf, range(at, at + passes), size)
            reached = self._tree.end_leaf()
            facts.push(leaf, self._facts(loss, weight, reached, end - begin, first=leaf == 0))
            losses.append(loss)
            complete &= self._are_all(reached)
            at += passes
        self.logical_rank = None
        self.own_losses = losses
        return facts.parts or [self._all.new_zeros(self._buffer_place + self._buffers.width)], complete

    def _leaf(
        self, batch: StepBatch, leaf: int, numbers: range, size: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run the passes of a leaf; return the loss and its weight."""
        weight: torch.Tensor | None = None
        losses = []
        self._tree.begin_leaf(leaf, passes=len(numbers))
        for number in numbers:
            if number == numbers[-1]:
                self._tree.begin_last_pass()
            summed, weight = self._backward(batch, number, size, weight)
            losses.append(summed.double())
        self._weighted = weight is not None
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum(), weight

    def _facts(
        self,
        loss: torch.Tensor,
        weight: torch.Tensor | None,
        reached: list[bool],
        samples: int,
        *,
        first: bool,
    ) -> torch.Tensor:
        """Lay out what a leaf gives besides its gradients as one vector."""
        facts = [loss.view(1), self._all.new_zeros(1) if weight is None else weight.double().view(1)]
        if self.terms is not None:
            facts.append(self.terms.flatten())
            self.terms = None
        elif self._term_count:
            facts.append(self._all.new_zeros(2 * self._term_count))
        facts.append(self._all if all(reached) else self._all.new_tensor(reached))
        if self._buffers.width:
            facts.append(self._all.new_empty(self._buffers.width))
            self._buffers.give(facts[-1], samples, first=first)
        else:
            self._buffers.give(self._all[:0], samples, first=first)
        return torch.cat(facts)

    def _are_all(self, reached: list[bool]) -> bool:
        """Say whether all parameters that are trained were reached."""
        expected = (parameter.requires_grad for parameter in self._parameters)
        return all(one or not other for one, other in zip(reached, expected, strict=True))

    def _leaves(self, size: int) -> int:
        return min(size, self._logical_ranks)

    def _parts(self, size: int, rank: int) -> list[tuple[int, int, int]]:
        return logical_shards(size, rank, self._group.world_size, self._logical_ranks)

    def _nodes_of(self, size: int) -> list[tuple[Node, ...]]:
        """Return the nodes of the tree that each rank has."""
        if size not in self._nodes:
            ranks = range(self._group.world_size)
            self._nodes[size] = nodes_of_owners([len(self._parts(size, rank)) for rank in ranks])
        return self._nodes[size]

    def _set_gradients(self, total: Gradients, facts: torch.Tensor, *, complete: bool) -> None:
        """Give parameters the summed gradients, but for those that no logical rank has reached."""
        reached = [True] * len(self._parameters)
        if not complete:  # only then is there something to ask the device for
            reached = [share > 0 for share in facts[self._reached_place : self._buffer_place].tolist()]
        self.unreached = []
        for parameter, gradient, is_reached in zip(self._parameters, total, reached, strict=True):
            if is_reached and parameter.requires_grad:
                parameter.grad = gradient
            elif parameter.requires_grad:
                self.unreached.append(parameter)

    def _for_meters(
        self, facts: torch.Tensor, weight: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what the meters get: all ranks the same."""
        share = facts[: self._reached_place].clone()
        self.terms = share[_FIRST_TERM:].view(-1, 2) if self._term_count else None
        return share[_LOSS], None if weight is None else share[_WEIGHT]

    def _divide(self, weight: torch.Tensor) -> None:
        """Divide the gradients by the weight of all ranks."""
        divisor = torch.where(weight == 0, 1, weight)
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.div_(divisor.to(parameter.grad.dtype))


def _leaves_before(part: tuple[int, int, int], size: int, logical_ranks: int) -> int:
    """Return how many logical ranks before this one have samples."""
    number = part[0]
    if size >= logical_ranks:
        return number
    return part[1]  # each part has one sample at most

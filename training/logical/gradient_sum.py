"""The sum of all ranks' gradients along the tree, which goes over the ranks while the last backward pass still runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from ..rank import Group
from .gradients import Bucket, Gradients, add_gradients, alone, fill, make_buckets, reached_again
from .sum_tree import Node, sum_of

_PAIR = 2
Nodes = Sequence[tuple[Node, ...]]


class GradientSum:
    """Sums gradients over the ranks, bucket by bucket, in an order that is the same on all of them.

    Args:
        parameters: that are trained.
        group: of two ranks or more.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], group: Group) -> None:
        self._parameters = list(parameters)
        self._group = group
        buckets = make_buckets(self._parameters, group.world_size)
        self._exchanges = [_Exchange(bucket, group, tag) for tag, bucket in enumerate(buckets)]
        self._bucket_of = {number: at for at, bucket in enumerate(buckets) for number in bucket.numbers}
        self._hooked: dict[int, Any] = {}
        self._is_open = False

    def begin(
        self,
        sums: tuple[list[Gradients], list[Gradients]],
        versions: Sequence[int] | None,
        nodes: Nodes,
        leaves: int,
    ) -> None:
        """Prepare for the last backward pass on this rank, whose gradients complete its sums.

        Args:
            sums: the rank's other sums, and those that the last leaf is added to, one after the other.
            versions: what ``give`` returned, where the pass adds to gradients.
            nodes: of each rank.
            leaves: of the tree.
        """
        (self._earlier, self._merging), self._versions = sums, versions
        self._nodes, self._leaves = nodes, leaves
        self._missing = [set(exchange.bucket.numbers) for exchange in self._exchanges]
        self._next = 0
        self._is_open = True
        for number, parameter in enumerate(self._parameters):
            if parameter.requires_grad and number not in self._hooked:
                self._hooked[number] = parameter.register_post_accumulate_grad_hook(self._reached(number))

    def send_rest(self, last: Gradients | None) -> None:
        """Send what the last pass has not reached: before any other collective, so that all ranks keep one order.

        Args:
            last: of the last leaf, as ``take`` has returned them; None where this rank has no leaf.
        """
        self._is_open = False
        while self._next < len(self._exchanges):
            numbers = self._exchanges[self._next].bucket.numbers
            self._send(None if last is None else [last[number] for number in numbers])
        self._earlier, self._merging = [], []

    def total(self) -> list[torch.Tensor]:
        """Wait for all that was sent; return the sums."""
        for exchange in self._exchanges:
            exchange.add()
        found: dict[int, torch.Tensor] = {}
        for exchange in self._exchanges:
            found |= zip(exchange.bucket.numbers, exchange.totals(), strict=True)
        return [found[number] for number in range(len(self._parameters))]

    def detach(self) -> None:
        """Leave the parameters alone from now on."""
        for hook in self._hooked.values():
            hook.remove()

    def _reached(self, number: int) -> Callable[[torch.Tensor], None]:
        at = self._bucket_of[number]

        def hook(_: torch.Tensor) -> None:
            if self._is_open:
                adds_to_sum = self._versions is not None and self._versions[number] >= 0
                if at < self._next or (adds_to_sum and number not in self._missing[at]):
                    raise reached_again()
                self._missing[at].discard(number)
                while self._next < len(self._missing) and not self._missing[self._next]:
                    self._send([self._grown(one) for one in self._exchanges[self._next].bucket.numbers])

        return hook

    def _grown(self, number: int) -> torch.Tensor | None:
        """Return the gradient of a parameter that the last pass has reached."""
        gradient = self._parameters[number].grad
        is_alone = gradient is not None and self._versions is not None and self._versions[number] < 0
        return alone(gradient) if is_alone else gradient

    def _send(self, last: Gradients | None) -> None:
        """Send the next bucket, in which the gradients of this rank are complete."""
        exchange = self._exchanges[self._next]
        self._next += 1
        numbers = exchange.bucket.numbers
        rows = [[gradients[number] for number in numbers] for gradients in self._earlier]
        if last is not None:
            for merged in self._merging:
                last = add_gradients([merged[number] for number in numbers], last)
            rows.append(last)
        with torch.no_grad():
            exchange.begin(rows, self._nodes, self._leaves)


class _Exchange:
    """Exchanges one bucket: each rank adds a share of it along the tree, and sends the sum to all.

    Of two ranks with a sum each, both send it whole and add: as many bytes, in one turn instead of two.

    Args:
        bucket: to be exchanged.
        group: the ranks.
        tag: tells it from other exchanges.
    """

    def __init__(self, bucket: Bucket, group: Group, tag: int) -> None:
        self.bucket = bucket
        self._group, self._tag = group, tag
        self._total = bucket.new(1)[0]
        self._views = bucket.views(self._total)
        self._handles: list[Any] = []
        self._sent: torch.Tensor | None = None

    def begin(self, sums: Sequence[Gradients], nodes: Nodes, leaves: int) -> None:
        """Send the sums of this rank's nodes."""
        self._nodes, self._leaves = nodes, leaves
        world_size, length = self._group.world_size, self.bucket.length
        sent = self._total[None] if len(sums) == 1 else self.bucket.new(len(sums))
        for row, gradients in zip(sent, sums, strict=True):
            fill(row, self._views if len(sums) == 1 else self.bucket.views(row), gradients)
        self._is_pair = world_size == _PAIR and [len(own) for own in nodes] == [1, 1]
        if self._is_pair:
            self._received, other = sent.new_empty(length), 1 - self._group.rank
            ways = (dist.isend, self._total), (dist.irecv, self._received)
            self._handles = dist.batch_isend_irecv(
                [dist.P2POp(way, vector, other, tag=self._tag) for way, vector in ways]
            )
            return
        share = length // world_size
        cut = sent if len(sums) == 1 else sent.view(-1, world_size, share).transpose(0, 1).contiguous()
        counts = [len(own) * share for own in nodes]
        self._received = sent.new_empty(sum(counts))
        self._sent = cut.view(-1)  # kept until it is sent
        own_counts = [len(sums) * share] * world_size
        self._handles = [
            self._group.watched(
                dist.all_to_all_single(self._received, self._sent, counts, own_counts, async_op=True)
            )
        ]

    def add(self) -> None:
        """Add what has arrived, and send the share that is this rank's to all."""
        self._wait()
        if self._is_pair:
            ordered = (self._total, self._received)[:: -1 if self._group.rank else 1]
            torch.add(*ordered, out=self._total)
            return
        names = [node for own in self._nodes for node in own]
        rows = self._received.view(len(names), -1).unbind()
        mine = sum_of(self._leaves, dict(zip(names, rows, strict=True)), torch.add).contiguous()
        self._received = mine  # kept until it is sent
        handle = dist.all_gather_into_tensor(self._total, mine, async_op=True)
        self._handles = [self._group.watched(handle)]

    def totals(self) -> list[torch.Tensor]:
        """Wait for the sums of all shares; return those of the parameters."""
        self._wait()
        del self._received
        return self._views

    def _wait(self) -> None:
        for handle in self._handles:
            handle.wait()
        self._handles, self._sent = [], None

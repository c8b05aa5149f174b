"""The order in which passes run a model's blocks: under FSDP, each block is gathered from all ranks in its turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ...data.common import TrainingError
from ..rank import Group
from ..tensors import plain_name
from .complete_gradients import expect_gradients
from .sharding import BLOCK_ORDER, find_blocks

_HINT = (
    "run every block in every pass, with its output times 0 where it is not wanted; or use train.strategy=ddp"
)
_RULE = (
    "each process gathers a block from all others, which takes the same blocks, in one order, in every pass"
)


class BlockOrder:
    """The blocks that passes run: learned before the parameters are cut, and demanded of every pass afterwards.

    A rank that deviates raises before it sends anything. Else, on two gloo ranks (torch 2.14), a block that one of
    them left out made both wait for ever or abort, and one that left out another parameter than its neighbour trained
    on gradients that did not belong together, without a word.

    Args:
        module: what a step calls.
        model: whose blocks are counted.
        parts: says which parts of a pass are run, each with an order of its own: of steps in turn, their numbers.
        running: says which of them runs.
    """

    def __init__(
        self,
        module: nn.Module,
        model: nn.Module,
        parts: Callable[[], Sequence[int]] = lambda: (0,),
        running: Callable[[], int] = lambda: 0,
    ) -> None:
        names = {id(part): plain_name(name) for name, part in model.named_modules()}
        self._module, self._model = module, model
        self._blocks = find_blocks(model)
        self._names = [names[id(block)] for block in self._blocks]
        self._parts, self._running = parts, running
        self._known: dict[tuple[bool, int], list[int]] = {}
        self._now: dict[tuple[bool, int], list[int]] | None = None
        self.paused = False
        """Whether passes may run what they like: all parameters are whole."""

    @contextmanager
    def learning(self, group: Group) -> Iterator[None]:
        """Learn from the passes inside, which every rank makes on the same samples. Collective at the end.

        Raises:
            TrainingError: they run different blocks already, or ranks do.
        """
        handles = self._watch(self._note, self._learn)
        yield
        for handle in handles:
            handle.remove()
        own = json.dumps(sorted(self._known.items())).encode()
        for rank, other in enumerate(group.gather_bytes(own)):
            for key, order in json.loads(other) if other != own else []:
                self._compare(order, self._known.get(tuple(key), []), f"on rank {rank}")

    def demand(self) -> None:
        """Demand the same from every pass of the model, whose parameters have been cut."""
        self._watch(self._check, self._end)
        ran = [at for (training, _), order in self._known.items() if training for at in order]
        once = [block for at, block in enumerate(self._blocks) if ran.count(at) == 1]
        expect_gradients(self._model, [self._module, *once])
        setattr(self._module, BLOCK_ORDER, self)

    def _watch(self, note: Callable[[int], None], end: Callable[[], None]) -> list[Any]:
        """Call ``note`` before a block and ``end`` after a pass, before FSDP has sent anything for them."""
        handles: list[Any] = [
            block.register_forward_pre_hook(lambda *_, at=at: note(at), prepend=True)
            for at, block in enumerate(self._blocks)
        ]
        handles.append(self._module.register_forward_pre_hook(self._begin, prepend=True))
        handles.append(self._module.register_forward_hook(lambda *_: end()))
        return handles

    def _begin(self, *_: Any) -> None:
        trained = self._model.training == torch.is_grad_enabled()  # else it is a trial
        self._now = {} if trained and not self.paused else None

    def _key(self) -> tuple[bool, int]:
        return torch.is_grad_enabled(), self._running()

    def _note(self, at: int) -> None:
        if self._now is not None:
            self._now.setdefault(self._key(), []).append(at)

    def _learn(self) -> None:
        now, self._now = self._now, None
        for part in self._parts() if now is not None else ():
            key = torch.is_grad_enabled(), part
            order = (now or {}).get(key, [])
            self._compare(order, self._known.setdefault(key, order), "in another pass")

    def _check(self, at: int) -> None:
        """Refuse a block out of turn."""
        key = self._key()
        if self._now is None or key not in self._known:
            return
        order, done = self._known[key], self._now.setdefault(key, [])
        if len(done) == len(order) or order[len(done)] != at:
            self._compare([*done, at], order, "in this pass")
        done.append(at)

    def _end(self) -> None:
        """Refuse a pass that has left blocks out."""
        now, self._now = self._now, None
        for part in self._parts() if now is not None else ():
            key = torch.is_grad_enabled(), part
            order, done = self._known.get(key, []), (now or {}).get(key, [])
            if len(done) < len(order):
                self._compare(done, order, "in this pass")

    def _compare(self, found: Sequence[int], known: Sequence[int], where: str) -> None:
        """Refuse two orders that differ, and name the first block in which they do."""
        if found == known:
            return
        same = sum(1 for _ in _common(found, known))
        ran, expected = (
            self._names[order[same]] if same < len(order) else "no block" for order in (found, known)
        )
        raise TrainingError(
            f"train.strategy=fsdp: {where} the model runs {ran} where it ran {expected} in the first pass; {_RULE}",
            _HINT,
        )


def _common(one: Sequence[int], other: Sequence[int]) -> Iterator[int]:
    for a, b in zip(one, other, strict=False):
        if a != b:
            return
        yield a

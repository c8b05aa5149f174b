"""What FSDP demands of every pass: the same blocks in one order, and a gradient for all that is sent together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from lockstep.data.common.errors import TrainingError
from lockstep.training.losses.objective import StepObjective
from lockstep.training.losses.turns import StepsInTurn
from lockstep.training.parallel.block_order import BlockOrder
from lockstep.training.parallel.sharding import shard, whole_parameters
from lockstep.training.rank.process_group import Group
from lockstep.training.tensors.sharded_tensors import is_sharded
from tests.helpers.threaded_ranks import threaded_groups

ALONE = Group(0, 0, 1, torch.device("cpu"))


@pytest.fixture
def gloo() -> Iterator[None]:
    """A group of one rank, which FSDP gathers from as from any other."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
        self.parts = "ab"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            x = x + getattr(self, part)(x)
        return x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(2, 2)
        self.order = [0, 1, 2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for at in self.order:
            x = self.blocks[at](x)
        return self.head(x)


X = torch.ones(3, 2)


def _pass(model: Net, order: list[int] | None = None) -> None:
    model.order = order or [0, 1, 2]
    model(X).sum().backward()


def _cut(model: Net, learned: list[int], *, training: bool = True) -> BlockOrder:
    order = BlockOrder(model, model)
    with order.learning(ALONE):
        _pass(model, learned)
        with torch.no_grad():
            model.eval()(X)
    model.zero_grad()
    model.train(training)
    shard(model, model, ALONE)
    order.demand()
    return order


OTHERS = {
    "one left out": ([0, 2], r"in this pass the model runs blocks\.2 where it ran blocks\.1 in the first"),
    "the last left out": ([0, 1], r"runs no block where it ran blocks\.2"),
    "another order": ([1, 0, 2], r"runs blocks\.1 where it ran blocks\.0"),
    "one more": ([0, 1, 2, 2], r"runs blocks\.2 where it ran no block"),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_a_pass_of_other_blocks_is_refused_before_anything_is_sent(gloo: None, kind: str, mode: str) -> None:
    (order, words), training = OTHERS[kind], mode == "training"
    model = Net()
    _cut(model, [0, 1, 2], training=training)
    with nullcontext() if training else torch.no_grad():
        model(X).sum()
        model.order = order
        with pytest.raises(TrainingError, match=words):
            model(X)
    assert all(is_sharded(block.a.weight) for block in model.blocks), "the refused one was gathered"


def test_passes_that_keep_the_order_train_on(gloo: None) -> None:
    model, plain = Net(), Net()
    plain.load_state_dict(model.state_dict())
    _cut(model, [2, 0, 0, 1])
    for _ in range(2):
        with torch.no_grad():  # a trial in training mode may do as it likes
            model.order = [0]
            model(X)
        _pass(model, [2, 0, 0, 1])
        _pass(plain, [2, 0, 0, 1])
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one.grad.full_tensor(), other.grad)


def test_a_rank_may_call_a_whole_model_as_it_likes(gloo: None) -> None:
    model = Net()
    _cut(model, [0, 1, 2])
    model(X).sum().backward()
    model.order = [2]
    with whole_parameters(model), torch.no_grad():
        model.eval()(X)
    model.train()
    with pytest.raises(TrainingError, match=r"blocks\.2"):
        _pass(model, [2])


def _learn(group: Group, *orders: list[int]) -> str:
    """What is refused of passes in these orders."""
    model = Net()
    try:
        with BlockOrder(model, model).learning(group):
            for order in orders:
                _pass(model, order)
    except TrainingError as error:
        return str(error)
    return ""


def test_trial_passes_that_differ_already_are_refused() -> None:
    assert _learn(ALONE, [0, 1, 2], [0, 1, 2]) == ""
    assert "in another pass the model runs blocks.2 where it ran blocks.1" in _learn(ALONE, [0, 1, 2], [0, 2])


def test_ranks_that_differ_are_refused() -> None:
    with ThreadPoolExecutor(2) as pool:
        words = list(pool.map(_learn, threaded_groups(), [[0, 2], [0, 1, 2]]))
    assert "on rank 1 the model runs blocks.1 where it ran blocks.2" in words[0]
    assert "on rank 0 the model runs blocks.2 where it ran blocks.1" in words[1]


def _left_out(model: Net, parts: str) -> None:
    model.blocks[1].parts = parts


@pytest.mark.parametrize("passes", [1, 2])
def test_a_block_without_all_its_gradients_is_refused(gloo: None, passes: int) -> None:
    model: Any = Net()
    _cut(model, [0, 1, 2])
    _left_out(model, "b")
    for number in range(passes - 1):
        model.set_requires_gradient_sync(number == passes - 1)
        _pass(model)
    model.set_requires_gradient_sync(True)
    with pytest.raises(TrainingError, match=r"did not reach blocks\.1\.a\.weight, blocks\.1\.a\.bias;"):
        _pass(model)


@pytest.mark.parametrize("kind", ["in the pass before", "frozen", "run twice"])
def test_what_need_not_be_reached_is_not_missed(gloo: None, kind: str) -> None:
    model: Any = Net()
    order = [0, 1, 1, 2] if kind == "run twice" else [0, 1, 2]
    _cut(model, order)
    if kind == "in the pass before":
        model.set_requires_gradient_sync(False)
        _pass(model)
        model.set_requires_gradient_sync(True)
    elif kind == "frozen":
        model.blocks[1].a.requires_grad_(requires_grad=False)
    _left_out(model, "b")
    _pass(model, order)
    assert model.blocks[1].b.weight.grad is not None


def _steps(model: Net) -> StepsInTurn:
    def run(order: list[int]) -> Callable[[Any, Any], torch.Tensor]:
        def step(model: Any, batch: Any) -> torch.Tensor:
            model.order = order
            return model(batch).sum(1)

        return step

    return StepsInTurn([StepObjective(run([0, 1, 2]), "a"), StepObjective(run([2]), "b")], ["a", "b"])


def test_each_of_several_steps_has_its_own_order(gloo: None) -> None:
    model = Net()
    steps = _steps(model)
    module = steps.callable_module(model)
    order = BlockOrder(module, model, lambda: steps.parts, lambda: steps.running)
    with order.learning(ALONE):
        module(X)
    shard(module, model, ALONE)
    order.demand()
    for turn in (0, 1, None, 1):
        steps.turn = turn
        module(X)
    steps.steps.reverse()
    for turn, words in (
        (0, r"runs blocks\.2 where it ran blocks\.0"),
        (1, r"runs blocks\.0 where it ran blocks\.2"),
    ):
        steps.turn = turn
        refused: AbstractContextManager[Any] = pytest.raises(TrainingError, match=words)
        with refused:
            module(X)

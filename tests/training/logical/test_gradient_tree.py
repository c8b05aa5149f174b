"""Gradients of leaves, added where backward leaves them: equal to the bit to sums of copies along the tree."""

from __future__ import annotations

import gc
import math
import random

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lockstep.data.common.errors import TrainingError
from lockstep.training.logical import gradients
from lockstep.training.logical.gradient_tree import GradientTree
from lockstep.training.logical.gradients import Bucket, fill, make_buckets
from lockstep.training.logical.sum_tree import PartialSums, nodes_of_owners, owned_nodes, sum_of
from lockstep.training.rank.process_group import Group

SEED = 18
ALONE = Group(0, 0, 1, torch.device("cpu"))


def _parameters() -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(SEED)
    return [nn.Parameter(torch.randn(size, generator=draw)) for size in ((7, 5), (1001,), (3,))]


def _loss(parameters: list[nn.Parameter], leaf: int, at: int = 0) -> torch.Tensor:
    """A loss that reaches some parameters, one of them twice, and another with gradients of -0.0."""
    draw = random.Random(f"{SEED} {leaf} {at}")
    first, second, third = parameters
    loss = (first * draw.gauss(0, 1)).tanh().sum() + (first * draw.gauss(0, 3)).sum()
    if draw.random() < 0.6:
        loss = loss + (second * draw.gauss(0, 1)).sin().sum()
    return loss + (third * -0.0).sum() if draw.random() < 0.3 else loss


def _copied(parameters: list[nn.Parameter], leaf: int, passes: int) -> list[torch.Tensor]:
    for at in range(passes):
        _loss(parameters, leaf, at).backward()
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    return found


@pytest.mark.parametrize("leaves", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("passes", [1, 2])
def test_the_sum_is_that_of_copies_to_the_bit(leaves: int, passes: int) -> None:
    parameters = _parameters()
    copies = [_copied(parameters, leaf, passes) for leaf in range(leaves)]
    tree = GradientTree(parameters, ALONE)
    tree.open(leaves, nodes_of_owners([leaves]), leaves - 1)
    reached = []
    for leaf in range(leaves):
        tree.begin_leaf(leaf, passes=passes)
        for at in range(passes):
            if at == passes - 1:
                tree.begin_last_pass()
            _loss(parameters, leaf, at).backward()
        reached.append(tree.end_leaf())
    tree.close()
    for number, found in enumerate(tree.total()):
        whole = sum_of(leaves, {(at, at + 1): one[number] for at, one in enumerate(copies)}, torch.add)
        if found is None:
            assert not any(marks[number] for marks in reached)
        else:
            assert torch.equal(found.view(torch.int32), whole.view(torch.int32))
    nonzero = [[bool(copy.any()) for copy in one[:2]] for one in copies]
    assert [marks[:2] for marks in reached] == nonzero
    assert all(parameter.grad is None for parameter in parameters)


def _pairs(first: nn.Module, second: nn.Module, *, reentrant: bool) -> None:
    """Two leaves, one backward pass each, through checkpointed modules."""
    parameters = list(dict.fromkeys([*first.parameters(), *second.parameters()]))
    tree = GradientTree(parameters, ALONE)
    tree.open(2, nodes_of_owners([2]), 1)
    for leaf in range(2):
        tree.begin_leaf(leaf, passes=1)
        tree.begin_last_pass()
        x = torch.full((3, 4), leaf + 0.7, requires_grad=True)
        for module in (first, second):
            x = checkpoint(module, x, use_reentrant=reentrant).tanh()
        x.sum().backward()
        assert all(tree.end_leaf())
    tree.close()


def test_a_gradient_that_a_pass_adds_to_twice_is_refused() -> None:
    """``(sibling + one) + two`` has other bits than ``sibling + (one + two)``."""
    shared = nn.Linear(4, 4)
    with pytest.raises(TrainingError, match="has added to a parameter's gradient again"):
        _pairs(shared, shared, reentrant=True)


@pytest.mark.parametrize("reentrant", [False, True])
def test_shared_and_recomputed_weights_are_taken(*, reentrant: bool) -> None:
    """Within one graph autograd adds a parameter's gradients before it adds them to what is there."""
    shared = nn.Linear(4, 4)
    if not reentrant:
        _pairs(shared, shared, reentrant=False)
    _pairs(shared, nn.Linear(4, 4), reentrant=reentrant)


@pytest.mark.parametrize("leaves", [8, pytest.param(64, marks=pytest.mark.exhaustive)])
def test_few_copies_of_the_gradients_are_held(leaves: int) -> None:
    parameter = nn.Parameter(torch.randn(1019))
    tree = GradientTree([parameter], ALONE)
    tree.open(leaves, nodes_of_owners([leaves]), leaves - 1)
    most = 0
    for leaf in range(leaves):
        tree.begin_leaf(leaf, passes=1)
        tree.begin_last_pass()
        (parameter * parameter).sum().backward()
        tree.end_leaf()
        held = {
            one.untyped_storage().data_ptr()
            for one in gc.get_objects()
            if type(one) is torch.Tensor and one.numel() == 1019
        }
        most = max(most, len(held))
    assert 1 <= most + 1 <= math.log2(leaves) + 2  # and the one that a backward pass is making


def test_an_owner_knows_what_its_last_leaf_is_added_to() -> None:
    partial = PartialSums[str](8, owned_nodes(8, 1, 8), lambda one, other: f"({one}+{other})")
    for leaf in range(1, 7):
        assert (partial.take_sibling(leaf) is None) == (leaf % 2 == 0 or leaf == 1)
        partial.push(leaf, str(leaf))
    others, merging = partial.before_last(7)
    assert others == ["1", "3"]
    assert merging == ["6", "5"]


def test_a_sibling_is_taken_off_and_pushed_as_one_sum() -> None:
    partial = PartialSums[str](5, owned_nodes(5, 0, 5), lambda one, other: f"({one}+{other})")
    for leaf in range(5):
        sibling = partial.take_sibling(leaf)
        partial.push(leaf, str(leaf) if sibling is None else f"({sibling}+{leaf})")
    assert partial.parts == ["(((0+1)+(2+3))+4)"]


def test_buckets_hold_each_parameter_once_on_lines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "_FIRST_BUCKET_BYTES", 100)
    monkeypatch.setattr(gradients, "_BUCKET_BYTES", 4200)
    parameters = [*_parameters(), nn.Parameter(torch.randn(9, 4).t()), nn.Parameter(torch.randn(5).double())]
    buckets = make_buckets(parameters, 3)
    assert [bucket.numbers for bucket in buckets] == [[4], [3, 2, 1], [0]]
    for bucket in buckets:
        own = [torch.randn_like(parameters[number]) for number in bucket.numbers]
        vector = bucket.new(1)[0]
        assert len(vector) % (3 * 64 // vector.element_size()) == 0
        fill(vector, bucket.views(vector), list(own))
        assert all(map(torch.equal, bucket.views(vector), own))
        assert [view.stride() for view in bucket.views(vector)] == [one.stride() for one in own]
        fill(vector, bucket.views(vector), [None, *own[1:]])
        assert not bucket.views(vector)[0].any()
    assert isinstance(buckets[0], Bucket)

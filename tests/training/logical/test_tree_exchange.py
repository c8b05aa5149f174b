"""Sums over real ranks along the tree: gathered whole or in shares, in one piece or in several."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers.launch import Launch
from tests.helpers.script_ranks import write_script

SCRIPT = """
import json
from itertools import pairwise
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn
from lockstep.data.common.errors import TrainingError
from lockstep.training.logical import tree_exchange
from lockstep.training.logical.gradient_tree import GradientTree
from lockstep.training.logical.sum_tree import PartialSums, owned_nodes, sum_of
from lockstep.training.rank.process_group import Group

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
group = Group(rank, rank, world, torch.device("cpu"))

def leaf(number, dtype):
    return torch.randn(1001, generator=torch.Generator().manual_seed(number)).to(dtype)

def summed(leaves, cuts, dtype):
    nodes = [owned_nodes(leaves, first, stop) for first, stop in pairwise(cuts)]
    partial = PartialSums(leaves, nodes[rank], torch.add)
    for number in range(cuts[rank], cuts[rank + 1]):
        partial.push(number, leaf(number, dtype))
    parts = partial.parts or [torch.zeros(1001, dtype=dtype)]
    found = tree_exchange.tree_sum(parts, nodes, leaves, group)
    whole = sum_of(leaves, {(n, n + 1): leaf(n, dtype) for n in range(leaves)}, torch.add)
    return torch.equal(found, whole)

seen = []
for tree_exchange._SMALL, tree_exchange._SEGMENT in ((1 << 16, 1 << 22), (0, 1 << 22), (0, 300)):
    for leaves, cuts in ((8, (0, 2, 5, 8)), (5, (0, 1, 3, 5)), (2, (0, 0, 1, 2)), (11, (0, 3, 3, 11))):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            seen.append(summed(leaves, cuts, dtype))
parameter = nn.Parameter(torch.zeros(1001))
tree, cuts = GradientTree([parameter], group), (0, 2, 5, 8)
own = range(cuts[rank], cuts[rank + 1])
tree.open(8, [owned_nodes(8, first, stop) for first, stop in pairwise(cuts)], own[-1])
for number in own:
    tree.begin_leaf(number, passes=1)
    tree.begin_last_pass()
    (parameter * leaf(number, torch.float32)).sum().backward()
    tree.end_leaf()
tree.close()
(found,) = tree.total()
seen.append(torch.equal(found, sum_of(8, {(n, n + 1): leaf(n, torch.float32) for n in range(8)}, torch.add)))
(exchange,) = tree._over_ranks._exchanges
held = {t.data_ptr() for t in vars(exchange).values() if isinstance(t, torch.Tensor)}
seen.append(held == {found.data_ptr()})  # what was sent is not kept

def branched(*, twice):
    # Two leaves on each rank; the first of them does not reach the second parameter.
    first, second = (nn.Parameter(torch.zeros(1001)) for _ in range(2))
    tree = GradientTree([first, second], group)
    tree.open(6, [owned_nodes(6, start, start + 2) for start in (0, 2, 4)], 2 * rank + 1)
    for number in (2 * rank, 2 * rank + 1):
        tree.begin_leaf(number, passes=1)
        tree.begin_last_pass()
        for _ in range(1 + (twice and number % 2)):
            loss = (first * leaf(number, torch.float32)).sum()
            (loss if twice or number % 2 == 0 else loss + (second * leaf(9, torch.float32)).sum()).backward()
        tree.end_leaf()
    tree.close()
    return [torch.equal(one, other) for one, other in zip(tree.total(), (
        sum_of(6, {(n, n + 1): leaf(n, torch.float32) for n in range(6)}, torch.add),
        sum_of(6, {(n, n + 1): leaf(9, torch.float32) * (n % 2) for n in range(6)}, torch.add),
    ), strict=True)]

seen += branched(twice=False)
try:
    branched(twice=True)
    seen.append(False)
except TrainingError:
    seen.append(True)
if rank == 1:
    Path("seen.json").write_text(json.dumps(seen))
dist.destroy_process_group()
"""


def test_three_ranks_give_the_sum_of_the_tree_to_the_bit(launch: Launch, tmp_path: Path) -> None:
    write_script(tmp_path, "sums.py", SCRIPT)
    done = launch("run", "--cpu", "3", "sums.py", cwd=tmp_path)
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "seen.json").read_text()) == [True] * 41

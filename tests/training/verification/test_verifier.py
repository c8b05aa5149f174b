"""Two real ranks, one of which goes wrong: what is compared, what is taken again, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lockstep.training.verification.divergence_error import Difference, Verdict, diverged_error
from tests.helpers.launch import Launch
from tests.helpers.paths import ROOT
from tests.helpers.script_ranks import write_script

CODE = '''
import torch
from torch import nn


def data():
    x = torch.randn(90, 7, generator=torch.Generator().manual_seed(0))
    return {"train": (x, (x.sum(1) > 0).long())}


class Grown(nn.Linear):
    """It has a table that fits the longest sample this rank has seen, and is not a state."""

    def __init__(self):
        super().__init__(7, 2)
        self.register_buffer("table", torch.zeros(3), persistent=False)
'''
CONFIG = """
data: {use: "./exp.py:data", batch_size: 30}
model: {use: "./exp.py:Grown"}
optimizer: {use: adam, lr: 0.01}
train: {logical_ranks: 4, precision: fp32, max_steps: 100, verify_every: 3}
"""
SCRIPT = f'''
import json
import sys
from pathlib import Path

sys.path.insert(0, {str(ROOT)!r})
import torch
import torch.distributed as dist

from lockstep.data.common import DivergedError
from lockstep.training.rank.process_group import Group
from lockstep.training.session.build import build_training
from lockstep.training.tracking.event_log import EventLog, read_events
from lockstep.training.verification import verifier as module
from tests.helpers.sessions import open_session

dist.init_process_group("gloo")
RANK = dist.get_rank()
GROUP = Group(RANK, RANK, 2, torch.device("cpu"))
FOLDER = Path(__file__).parent


def attempt(name, *, flipped=None, steps=14, paused=False):
    """Train with a bit of rank 1 flipped after a step; what was seen of it."""
    training = build_training(open_session(FOLDER / "exp.yaml", [], GROUP))
    session, path = training.session, FOLDER / f"{{name}}.jsonl"
    events = EventLog(path if RANK == 0 else None)
    told, losses, digests, touches = [], [0], [0], []

    def touch():
        touches.append(1)
        told.append([event["event"] for event in read_events(path)])

    verifier = module.Verifier.of_run(training, events, 0, touch, lambda: None)
    digest = verifier._digest

    def counted(tensors):
        digests[0] += 1
        return digest(tensors)

    verifier._digest = counted
    step, error = 0, None

    def train():
        nonlocal step
        while step < steps:
            for fetched in session.train_feed.fetch(session.train_work(*divmod(step, session.batches.steps))):
                training.begin_step(step)
                training.stepper.run(fetched, 30, fetched.indices.size)
                step += 1
                training.ema.update(step)
                if step == flipped and RANK == 1:
                    session.model.weight.detach().view(-1).view(torch.int32)[5] ^= 1 << 21
                if step == 2 and RANK == 1:
                    session.model.table = torch.zeros(5)
                verifier.add(step)
                losses.append(len(verifier._losses))
                if step == steps:
                    break

    try:
        with verifier.explaining():
            train()
            before = digests[0]
            if paused:
                verifier.pause()
            verifier.verify(step)
            digests[0] -= before
    except DivergedError as found:
        error = found.message
    kinds = [event["event"] for event in read_events(path)]
    return {{
        "touches": len(touches),
        "told": told[0] if told else [],
        "kinds": kinds,
        "losses": max(losses),
        "digests": digests[0],
        "error": error,
        "agreed": [event["agreed"] for event in read_events(path) if event["event"] == "diverged"],
        "ranks": [event["ranks"] for event in read_events(path) if event["event"] == "diverged_rank"],
    }}


seen = {{"suspected": attempt("suspected", flipped=4), "sure": attempt("sure", flipped=6)}}
seen |= {{"healthy": attempt("healthy", steps=24), "paused": attempt("paused", steps=24, paused=True)}}
seen["later"] = attempt("later", steps=25)
module.MOST_RETAKEN = 5
seen["bounded"] = attempt("bounded", flipped=4)
module.MOST_RETAKEN = 5000
module.Verifier._is_deterministic = property(lambda self: False)
seen["random"] = attempt("random", flipped=4)
if RANK == 0:
    (FOLDER / "seen.json").write_text(json.dumps(seen))
dist.barrier()
dist.destroy_process_group()
'''


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    return {}


@pytest.fixture
def seen(launch: Launch, tmp_path: Path, found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the two ranks have seen: they run once."""
    if not found:
        write_script(tmp_path, "exp.py", CODE)
        write_script(tmp_path, "exp.yaml", CONFIG)
        write_script(tmp_path, "ranks.py", SCRIPT)
        done = launch("run", "--cpu", "2", "ranks.py", cwd=tmp_path)
        assert done.status == 0, done.err
        found |= json.loads((tmp_path / "seen.json").read_text())
    return found


def test_steps_that_are_taken_again_are_signs_of_life_and_the_fact_is_recorded_before(
    seen: dict[str, dict[str, Any]],
) -> None:
    one = seen["suspected"]
    assert (one["touches"], one["told"]) == (6, ["diverged"])
    assert one["kinds"] == ["diverged", "diverged_rank"]
    assert one["agreed"] == [3]


def test_a_rank_that_only_may_be_wrong_is_suspected(seen: dict[str, dict[str, Any]]) -> None:
    one = seen["suspected"]
    assert one["ranks"] == [[1]]
    assert "suspected: rank 1 (host " in one["error"]
    assert "holds another state than it should" not in one["error"]
    sure = seen["sure"]
    assert sure["ranks"] == [[1]]
    assert "holds another state than it should: the steps after step 0 were taken again" in sure["error"]


def test_nobody_is_suspected_where_steps_do_not_repeat(seen: dict[str, dict[str, Any]]) -> None:
    one = seen["random"]
    assert one["ranks"] == [[]]
    assert "steps that are taken again give other numbers here" in one["error"]


def test_no_more_than_so_many_steps_are_taken_again(seen: dict[str, dict[str, Any]]) -> None:
    one = seen["bounded"]
    assert (one["touches"], one["kinds"]) == (0, ["diverged", "diverged_rank"])
    assert "6 steps since the last copy are too many to be taken again (5 at most)" in one["error"]


def test_losses_are_kept_until_ranks_agree(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["healthy"]["error"] is None
    assert seen["healthy"]["losses"] == 5


def test_what_was_sent_is_not_computed_again_unless_something_came_in_between(
    seen: dict[str, dict[str, Any]],
) -> None:
    digests = {name: seen[name]["digests"] for name in ("healthy", "paused", "later")}
    assert digests == {"healthy": 0, "paused": 1, "later": 1}


def test_what_was_never_compared_is_not_said_to_have_been_equal() -> None:
    verdict = Verdict([], "no more than half of the ranks agree")
    first = Difference(9, None, 4, ["weight a", "weight b", "weight c", "weight d"])
    error = diverged_error(first, verdict, ["host x, CPU"] * 2, None)
    assert error.message.endswith(
        "after step 9 weight a, weight b, weight c and 1 more differ; it is the first comparison since step 4"
    )
    assert "it has no checkpoint yet" in str(error.hint)
    later = diverged_error(Difference(9, 6, 4, ["weight a"]), verdict, ["host x, CPU"] * 2, 6)
    assert later.message.endswith("after step 6 all ranks were equal")
    assert "it resumes from step 6" in str(later.hint)

"""Real ranks, one of which leaves their group without a word, or dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.helpers.launch import Launch, free_port
from tests.helpers.paths import ROOT
from tests.helpers.script_ranks import write_script

SCRIPT = f"""
import sys
import time
from pathlib import Path

sys.path.insert(0, {str(ROOT)!r})
import torch
import torch.distributed as dist

from lockstep.training.rank.process_group import join

group, kept, noticed = join(gpu=False), dist.group.WORLD, Path(__file__).parent / "noticed"
group.sum(torch.ones(3))
if group.rank == 0:
    group.abandon()
    while not noticed.exists():  # it lives on, and so does what it has referred to
        time.sleep(0.01)
else:
    try:
        group.sum(torch.ones(3))
    except RuntimeError as error:
        noticed.write_text(str(error))
"""


def test_who_waits_for_a_rank_that_has_abandoned_the_group_notices_it(launch: Launch, tmp_path: Path) -> None:
    script = write_script(tmp_path, "abandoned.py", SCRIPT)
    found = launch("run", "--cpu", "2", str(script), cwd=tmp_path)
    assert found.status == 0, found.err
    assert "imed out" not in (tmp_path / "noticed").read_text()


BLOCKED = f"""
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, {str(ROOT)!r})
import torch
import torch.distributed as dist

from lockstep.training.rank.process_group import join

folder = Path(__file__).parent
group = replace(join(gpu=False), has_lost=lambda change: (folder / "left-3").exists())
group.sum(torch.ones(3))


def await_file(name):
    while not (folder / name).exists():
        time.sleep(0.01)


def all_to_all():
    return dist.all_to_all_single(torch.empty(400_000), torch.ones(400_000), async_op=True)


def fails(work):
    try:
        work.wait()
    except RuntimeError:
        return True


if group.rank == 2:
    await_file("begun-0")
    os.kill(os.getpid(), signal.SIGKILL)
if group.rank == 3:
    await_file("failed-0")
exchange = group.watched(all_to_all())
if group.rank == 0:
    gather = group.watched(dist.all_gather_single(torch.empty(40), torch.ones(10), async_op=True))
    (folder / "begun-0").touch()
assert fails(exchange)
(folder / f"failed-{{group.rank}}").touch()
if group.rank == 0:
    assert fails(gather)  # whose connection with rank 3 is busy with what nobody takes any more
    del exchange, gather
if group.rank == 1:
    await_file("left-0")
group.abandon()
(folder / f"left-{{group.rank}}").touch()
await_file("left-0")
"""


def test_an_exchange_that_gloo_waits_for_in_vain_ends_with_the_death_of_a_rank(tmp_path: Path) -> None:
    script = write_script(tmp_path, "blocked.py", BLOCKED)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "4"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script)],
            env={**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(4)
    ]
    assert [rank.wait(timeout=100) for rank in ranks] == [0, 0, -signal.SIGKILL, 0]

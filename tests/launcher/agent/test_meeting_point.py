"""Scripts that say themselves where they meet, as torch's tutorials do, meet all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.launcher.agent.meeting_point import _sets_port
from tests.helpers.launch import Launch, free_port
from tests.helpers.script_ranks import write_script

SETUP = """
import os, sys
import torch, torch.distributed as dist, torch.multiprocessing as mp
def setup(rank, world):
    os.environ["MASTER_ADDR"] = "localhost"
    os.environ["MASTER_PORT"] = "{port}"
    dist.init_process_group("gloo", rank=rank, world_size=world)
    total = torch.ones(1)
    dist.all_reduce(total)
    os.write(1, f"sum {{total.item()}}\\n".encode())  # in one piece, whoever else writes
    dist.destroy_process_group()
"""
TUTORIAL = f"{SETUP}\nfor _ in range(3):\n    setup(int(os.environ['RANK']), int(os.environ['WORLD_SIZE']))\n"
SPAWNING = f"{SETUP}\nif __name__ == '__main__':\n    mp.spawn(setup, args=(2,), nprocs=2)\n"
CLOSED = 1  # a port that nobody listens at, and that nobody but root may open


@pytest.mark.parametrize("start", ["fork", pytest.param("exec", marks=pytest.mark.exhaustive)])
def test_a_tutorial_that_sets_its_own_port_meets_at_the_launchers(
    launch: Launch, tmp_path: Path, start: str
) -> None:
    script = write_script(tmp_path, "tutorial.py", TUTORIAL.format(port=CLOSED))
    result = launch("run", "--cpu", "2", "--start", start, "--hang-timeout", "60", str(script))
    assert (result.status, result.out) == (0, 3 * "sum 2.0\n"), result.err
    words = f"note: the script sets MASTER_ADDR=localhost and MASTER_PORT={CLOSED}; "
    assert result.err.count(words) >= 1, result.err
    assert result.err.count("[rank 1] sum 2.0\n") == 3


@pytest.mark.exhaustive
def test_processes_that_a_script_starts_itself_meet_where_it_says(launch: Launch, tmp_path: Path) -> None:
    script = write_script(tmp_path, "spawning.py", SPAWNING.format(port=free_port()))
    result = launch("run", "--cpu", "1", "--hang-timeout", "60", str(script))
    assert (result.status, result.out) == (0, "sum 2.0\nsum 2.0\n"), result.err
    assert "note: the rank starts processes that meet on their own" in result.err


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ('os.environ["MASTER_PORT"] = "1"', True),
        ("os.environ['MASTER_PORT'] = '1'", True),
        ('port = os.environ["MASTER_PORT"]', False),
        ("import torch", False),
    ],
)
def test_a_file_that_sets_the_port_is_told_from_one_that_reads_it(
    tmp_path: Path, *, text: str, sets: bool
) -> None:
    assert _sets_port(str(write_script(tmp_path, "x.py", text))) is sets

"""Memory that runs out, really: a control group's limit, a /dev/shm that is full; and a collective that times out."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.launch import LAUNCH, Launch, free_port, run_command
from tests.helpers.node_launch import NodeLaunch
from tests.helpers.script_ranks import write_script

BYTES = 1_500_000_000  # torch and three processes of it need a third of that
Prefix = tuple[str, ...]

EATER = """
import os, sys, time
import torch, torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

def eat():
    kept = []
    while True:
        kept.append(bytearray(2**24))

class Rows(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, row):
        if sys.argv[2] == "worker":
            eat()
        return torch.zeros(1_000_000)

dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
if os.environ["RANK"] == sys.argv[1]:
    if sys.argv[2] == "rank":
        eat()
    for batch in DataLoader(Rows(), batch_size=4, num_workers=1):
        pass
dist.all_reduce(torch.ones(1))
"""


def _folders() -> Iterator[Path]:
    """Where a control group for memory may be made: below this process's own."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield Path("/sys/fs/cgroup/memory") / path.lstrip("/")
        elif not controllers:
            yield Path("/sys/fs/cgroup") / path.lstrip("/")


@pytest.fixture
def limited() -> Iterator[Callable[[], Prefix]]:
    """Words before a command that put it into a control group of its own, which has little memory."""
    made: list[Path] = []

    def make() -> Prefix:
        for parent in _folders():
            group = parent / f"lockstep-{secrets.token_hex(4)}"
            try:
                group.mkdir()
            except OSError:
                continue
            made.append(group)
            for name in ("memory.max", "memory.limit_in_bytes"):
                if (group / name).exists():
                    (group / name).write_text(str(BYTES))
                    return "/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)
        pytest.skip("needs a control group for memory that this user may make")

    yield make
    for group in made:
        _remove(group)


def _remove(group: Path) -> None:
    """The kernel may hold it for a moment longer than its last process lives."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _run(prefix: Prefix, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command([*prefix, *LAUNCH, "run", *arguments])


@pytest.mark.parametrize("eater", ["rank", pytest.param("worker", marks=pytest.mark.exhaustive)])
def test_who_is_killed_at_a_control_groups_limit_is_named(
    limited: Callable[[], Prefix], tmp_path: Path, eater: str
) -> None:
    done = _run(limited(), "--cpu", "2", str(write_script(tmp_path, "eater.py", EATER)), "1", eater)
    assert done.returncode == 7, done.stderr
    card = done.stderr[done.stderr.rindex("error: ") :]
    assert card.startswith("error: rank 1 of 2"), card
    assert "its control group was out of memory" in card
    assert "exit status 7" in card
    if eater == "worker":
        assert "eater.py:25" in card  # the line that waited for the worker, not torch's signal handler


@pytest.mark.exhaustive
def test_memory_that_runs_out_on_another_node_is_told_on_both(
    hosts: list[NodeLaunch],
    limited: Callable[[], Prefix],
    tmp_path: Path,
) -> None:
    script, meeting = str(write_script(tmp_path, "eater.py", EATER)), f"127.0.0.1:{free_port()}"
    for node in range(2):
        where = ["--nodes", "2", "--node-rank", str(node), "--rendezvous", meeting]
        arguments = ["run", "--cpu", "1", *where, script, "1", "rank"]
        hosts.append(NodeLaunch(arguments, limited() if node else (), {"LOCKSTEP_KEY": "a secret"}))
    for host in hosts:
        status, _, err = host.end()
        assert status == 7, err
        assert "rank 1 of 2 was killed by SIGKILL: its control group was out of memory" in err
        host.check_nothing_is_left()


@pytest.mark.exhaustive
def test_a_full_dev_shm_is_told(tmp_path: Path) -> None:
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("needs root and util-linux, for a /dev/shm of its own")
    prefix = ("unshare", "-m", "/bin/sh", "-c", 'mount -t tmpfs -o size=2m tmpfs /dev/shm && exec "$@"', "-")
    done = _run(prefix, "--cpu", "2", str(write_script(tmp_path, "eater.py", EATER)), "0", "shm")
    assert done.returncode == 1, done.stderr
    card = done.stderr[done.stderr.rindex("error: ") :]
    assert card.startswith("error: rank 0 of 2"), card
    assert "/dev/shm may be too small" in card
    assert len(card.splitlines()) <= 12


LATE = """
import datetime, os, time
import torch, torch.distributed as dist
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=3))
dist.all_reduce(torch.ones(1))
if os.environ["RANK"] == "1":
    time.sleep(600)
dist.all_reduce(torch.ones(1))
"""


@pytest.mark.exhaustive
def test_the_rank_that_the_others_waited_for_until_their_limit_is_named(
    launch: Launch, tmp_path: Path
) -> None:
    result = launch("run", "--cpu", "3", str(write_script(tmp_path, "late.py", LATE)))
    card = result.err[result.err.rindex("error: ") :]
    assert card.startswith("error: rank 1 of 3 did not come to a collective"), result.err
    assert result.status == 5

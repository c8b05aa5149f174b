"""``--hosts``: real sshd on hosts in network namespaces, from one command."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import psutil
import pytest

from tests.helpers.doc_blocks import blocks_of
from tests.helpers.doc_reader import own_files
from tests.helpers.launch import WATCHDOG, Launch, outcome_of, run_folder, runs_folder
from tests.helpers.node_launch import NodeLaunch
from tests.helpers.paths import ROOT
from tests.helpers.readme import lines_that_are_missing
from tests.helpers.run_records import DIGESTS
from tests.helpers.ssh_hosts import NEEDS_SSHD, SshNetwork, bind, ssh_network

pytestmark = NEEDS_SSHD

SCRIPT = """
import os, sys, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
print("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], os.environ["MY_OWN"], flush=True)
if sys.argv[1:] == [os.environ["RANK"]]:
    raise ValueError("my own error")
dist.destroy_process_group()
"""

Start = Callable[..., NodeLaunch]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[SshNetwork]:
    folder = tmp_path / "ssh"
    folder.mkdir()
    with ssh_network(folder, ("a", "b", "c", "d")) as network:
        yield network


@pytest.fixture
def start(hosts: list[NodeLaunch], network: SshNetwork, own: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """``start("train", …)`` on the first host, which has no sshd unless it is started."""
    monkeypatch.chdir(own)

    def on_a(*arguments: str, at: str = "a", **environment: str) -> NodeLaunch:
        every = {**network.environment, **environment}
        hosts.append(NodeLaunch(list(arguments), prefix=network[at].prefix, environment=every))
        return hosts[-1]

    return on_a


class CommandLines:
    """All command lines that any process has while this is open."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.5):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def wait_for_epochs(node: NodeLaunch, name: str) -> None:
    record = run_folder(name) / "metrics.jsonl"
    deadline = time.monotonic() + WATCHDOG
    while not (record.exists() and '"epoch"' in record.read_text()):
        assert time.monotonic() < deadline
        assert node.process.poll() is None, node.end()
        time.sleep(0.05)


def weights(name: str) -> bytes:
    newest = max((run_folder(name) / "checkpoints").glob("step_*"))
    return (newest / "model.safetensors").read_bytes()


def test_the_hosts_of_the_guide_train_as_shown_with_the_key_in_no_command_line(
    network: SshNetwork, start: Start, own: Path
) -> None:
    network["b"].start(more='ForceCommand echo welcome; eval "$SSH_ORIGINAL_COMMAND"')
    own_files(own)
    session = next(block for block in blocks_of("docs/hosts.md") if block.language == "console")
    ((command, shown),) = session.session()
    arguments = shlex.split(command)[1:]
    secret = "a-secret-of-the-test"
    with CommandLines() as lines:
        node = start(*arguments, LOCKSTEP_KEY=secret, LOCKSTEP_RUNS="runs")
        status, out, err = node.end()
    assert status == 0, err
    assert lines_that_are_missing(shown, out + err) == [], out + err
    assert out.startswith("epoch "), out
    assert "they meet at 10.78.0.1:" in err
    assert sum(b"--node-rank" in line for line in lines.seen) >= 2
    assert not [line for line in lines.seen if secret.encode() in line]
    node.check_nothing_is_left()
    network.check_nothing_is_left()


def test_all_hosts_that_cannot_take_part_are_named_at_once(
    network: SshNetwork, start: Start, tmp_path: Path
) -> None:
    other = tmp_path / "other.py"
    other.write_text('__version__ = "0.0.1"\n')
    network["b"].start(setup=bind(other, ROOT / "launcher" / "_root" / "__init__.py"))
    network["d"].start(setup=f"mount -t tmpfs none {Path(sys.executable).parent}")
    node = start("train", "own.yaml", "--hosts", "a,b,c,d,10.78.0.77", "--name", "none")
    status, out, err = node.end()
    assert (status, out) == (3, ""), err
    card = err.splitlines()
    assert card[0] == "error: 4 of 5 hosts cannot take part", err
    assert card[1].startswith("  b: lockstep 0.0.1 is installed there, ")
    assert card[2] == "  c: ssh: connect to host 10.78.0.3 port 22: Connection refused"
    assert card[3].startswith(f"  d: there is no {sys.executable} there (")
    assert card[4] == "  10.78.0.77: ssh: connect to host 10.78.0.77 port 22: No route to host"
    assert card[5].startswith("hint: install the same version on every host; see that `ssh HOST true` works")
    assert len(card) == 6
    assert not runs_folder().exists()
    network.check_nothing_is_left()


@pytest.mark.parametrize("hidden", ["runs", pytest.param("work", marks=pytest.mark.exhaustive)])
def test_a_host_that_does_not_see_a_folder_is_named(
    network: SshNetwork, start: Start, own: Path, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    runs_folder().mkdir()
    work = own / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    network["b"].start()
    network["c"].start(setup=f"mount -t tmpfs none {runs_folder() if hidden == 'runs' else own}")
    status, _, err = start("train", str(own / "own.yaml"), "--hosts", "a,b,c", "--name", "none").end()
    seen = f"does not see the run folder: {runs_folder()} is not that of a (not the same folder)"
    there = f"{work}, where this command runs, is not there: No such file or directory"
    assert (status, err.splitlines()[0]) == (2, f"error: host c: {seen if hidden == 'runs' else there}"), err
    assert list(runs_folder().iterdir()) == []
    network.check_nothing_is_left()


@pytest.mark.exhaustive
def test_a_training_on_three_hosts_from_a_fourth_is_that_of_one(
    network: SshNetwork, start: Start, launch: Launch, own: Path
) -> None:
    for name in "abc":
        network[name].start()
    (own / "hosts").write_text("a  # node 0\nb slots=1\nc:1\n")
    node = start("train", "own.yaml", "--cpu", "1", "--hostfile", "hosts", "--name", "three", at="d")
    status, _, err = node.end()
    assert status == 0, err
    assert "hosts: node 0 is a, b, c; they meet at 10.78.0.1:" in err
    assert "three: 3 CPU processes on 3 nodes (1 + 1 + 1)" in err
    assert launch("train", str(own / "own.yaml"), "--cpu", "3", "--name", "one").status == 0
    three, one = outcome_of("three"), outcome_of("one")
    for key in (*DIGESTS, "ranks"):
        assert three[key] == one[key]
    assert weights("three") == weights("one")
    resumed = start("resume", "three", "train.epochs=3", "--cpu", "1", "--hosts", "b,c", at="d")
    status, _, err = resumed.end()
    assert status == 0, err
    assert outcome_of("three")["world_size"] == 2
    network.check_nothing_is_left()


@pytest.mark.exhaustive
@pytest.mark.parametrize("culprit", [None, 0, 2])
def test_a_script_runs_on_hosts_without_shared_storage(
    network: SshNetwork, start: Start, own: Path, culprit: int | None
) -> None:
    (own / "script.py").write_text(SCRIPT)
    runs_folder().mkdir()
    network["b"].start(setup=f"mount -t tmpfs none {runs_folder()}")
    program = ["script.py", *([] if culprit is None else [str(culprit)])]
    node = start("run", "--hosts", "a:1,b:2", *program, MY_OWN="words")
    status, out, err = node.end()
    assert out == "rank 0 of 3 words\n", err
    assert "[rank 1] rank 1 of 3 words\n" in err
    if culprit is None:
        assert (status, "error: " in err) == (0, False), err
    else:
        assert status == 1, err
        assert err.count("error: ") == 1, err
        assert f"error: rank {culprit} of 3: ValueError: my own error" in err
    network.check_nothing_is_left()


@pytest.mark.exhaustive
def test_a_node_that_fails_before_the_nodes_have_met_ends_all_and_is_named(
    network: SshNetwork, start: Start, own: Path
) -> None:
    script = own.parent / "only" / "script.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    for name in "bc":
        network[name].start(setup=f"mount -t tmpfs none {script.parent}")
    began = time.monotonic()
    status, _, err = start("run", "--hosts", "a,b,c", "--cpu", "1", str(script)).end()
    assert status == 2, err
    card = err[err.index("error: ") :].splitlines()
    assert card == [
        "error: 2 of 3 hosts have failed",
        f"  host b: {script}: there is no such script",
        f"  host c: {script}: there is no such script",
        "hint: launch run [OPTIONS] SCRIPT [ARGS]",
    ]
    assert time.monotonic() - began < 120  # and not the ten minutes that node 0 waits
    network.check_nothing_is_left()


def long_training(start: Start, network: SshNetwork, at: str = "a") -> NodeLaunch:
    for name in "ab":
        if name != at:
            network[name].start()
    arguments = ("own.yaml", "train.epochs=3000", "--cpu", "1", "--name", "long")
    node = start("train", *arguments, "--hosts", "a,b", at=at)
    wait_for_epochs(node, "long")
    return node


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_command_stops_all_with_a_checkpoint(
    network: SshNetwork, start: Start, number: signal.Signals
) -> None:
    node = long_training(start, network)
    command_of(node).send_signal(number)
    status, _, err = node.end()
    assert status == 75, err
    assert f"stopping ({number.name}): a checkpoint is written at step " in err
    assert "resume it with `launch resume long`" in err
    assert outcome_of("long")["status"] == "stopped"
    node.check_nothing_is_left()
    network.check_nothing_is_left()


@pytest.mark.exhaustive
def test_a_second_interrupt_ends_all_at_once(network: SshNetwork, start: Start) -> None:
    node = long_training(start, network)
    for process in node.family():  # no checkpoint comes of it
        if "launch" not in " ".join(process.cmdline()):
            process.suspend()
    command = command_of(node)
    command.send_signal(signal.SIGINT)
    time.sleep(1)
    command.send_signal(signal.SIGINT)
    assert node.end()[0] == 130
    node.check_nothing_is_left()
    network.check_nothing_is_left()


@pytest.mark.exhaustive
@pytest.mark.parametrize("at", ["a", "d"])
def test_a_command_that_is_killed_leaves_nothing_but_a_checkpoint(
    network: SshNetwork, start: Start, at: str
) -> None:
    node = long_training(start, network, at)
    command_of(node).kill()
    network.check_nothing_is_left()
    node.check_nothing_is_left()
    node.end()
    assert outcome_of("long")["status"] == "stopped"


@pytest.mark.exhaustive
@pytest.mark.parametrize(("lost", "status"), [("a", 4), ("b", 75)])
def test_a_host_whose_connection_ends_is_named_and_its_node_leaves_a_checkpoint(
    network: SshNetwork, start: Start, lost: str, status: int
) -> None:
    node = long_training(start, network, "d")
    for process in network[lost].sessions:
        if process.name() == "sshd":
            process.kill()
    own, _, err = node.end()
    assert own == status, err
    which = {"a": "error: host a (node 0): the connection was lost: ", "b": "note: b was lost: "}[lost]
    assert which in err, err
    assert "its node ends as at a SIGTERM" in err
    assert outcome_of("long")["status"] == "stopped"
    node.check_nothing_is_left()
    network.check_nothing_is_left()


@pytest.mark.exhaustive
def test_hosts_that_lose_the_command_s_machine_stop_with_a_checkpoint(
    network: SshNetwork, start: Start
) -> None:
    node = long_training(start, network, "d")
    network["d"].unplug()
    status, _, err = node.end()
    assert status == 4, err
    assert "error: host a (node 0): the connection was lost: " in err
    node.check_nothing_is_left()
    assert outcome_of("long")["status"] == "stopped"


def command_of(node: NodeLaunch) -> psutil.Process:
    """The command itself, which ``ip`` has become."""
    return psutil.Process(node.process.pid)

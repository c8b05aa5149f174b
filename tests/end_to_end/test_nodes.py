"""Several nodes by hand: on one machine, and on two hosts in network namespaces with a cable that is cut."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lockstep.launcher.nodes.reachability import unreachable_addresses
from lockstep.launcher.runs.run_status import read_status
from tests.helpers.fault_launch import HANG_TIMEOUT, cases
from tests.helpers.launch import WATCHDOG, Launch, free_port, outcome_of, run_folder, runs_folder
from tests.helpers.node_launch import NodeLaunch, start_two_nodes
from tests.helpers.paths import PROGRAMS
from tests.helpers.run_records import DIGESTS

SCRIPT = """
import os, sys, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1)
for step in range(40):
    dist.all_reduce(total)
    if step == 20 and sys.argv[1:] == [os.environ["RANK"]] and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        raise ValueError("my own error")
print("node", os.environ["GROUP_RANK"], "rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], flush=True)
dist.destroy_process_group()
"""


def test_a_training_on_two_nodes_is_that_of_one(hosts: list[NodeLaunch], launch: Launch, own: Path) -> None:
    nodes = start_two_nodes(hosts, "train", str(own / "own.yaml"), "--name", "two")
    ends = [node.end() for node in nodes]
    assert [end[0] for end in ends] == [0, 0], ends
    assert "3 CPU processes on 2 nodes (1 + 2)" in ends[0][2]
    assert launch("train", str(own / "own.yaml"), "--cpu", "3", "--name", "one").status == 0
    two, one = outcome_of("two"), outcome_of("one")
    for key in (*DIGESTS, "ranks"):
        assert two[key] == one[key]
    assert list(run_folder("two").glob(".meeting*")) == []  # it held the secret
    for node in nodes:
        node.check_nothing_is_left()


def test_the_culprit_on_another_node_is_named_on_both(hosts: list[NodeLaunch], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    port = free_port()
    more = ("--rendezvous", f"127.0.0.1:{port}")
    nodes = start_two_nodes(hosts, "run", *more, str(script), "2", environment={"LOCKSTEP_KEY": "a secret"})
    for node in nodes:
        status, _, err = node.end()
        card = err[err.rindex("\nerror: ") + 1 :]
        assert status == 1, err
        assert card.startswith("error: rank 2 of 3: ValueError: my own error"), err
        node.check_nothing_is_left()
    (apart,) = runs_folder().glob("*.node-1")
    found = read_status(apart)
    assert (found.status, found.outcome["exit_code"]) == ("failed", 1), (
        "as it ended, though it has no run to resume"
    )
    assert time.time() - found.updated < WATCHDOG


def test_ranks_of_both_nodes_are_started_again(hosts: list[NodeLaunch], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    nodes = start_two_nodes(hosts, "run", "--name", "again", "--max-restarts", "1", str(script), "2")
    ends = [node.end() for node in nodes]
    assert [end[0] for end in ends] == [0, 0], ends
    assert "node 0 rank 0 of 3" in ends[0][1]
    assert "restart 1 of 1" in ends[0][2]
    assert "node 1 rank 2 of 3" in ends[1][2]


HANGS = {
    "stop": "hangs: it is stopped (SIGSTOP or the like)",
    "sleep": "hangs: it makes no progress at",
    "skip": "hangs: it waits in",
}


@pytest.mark.parametrize(
    ("command", "fault", "culprit"),
    cases(
        [(command, fault, culprit) for command in ("train", "run") for fault in HANGS for culprit in (0, 2)],
        [],
    ),
)
def test_a_hang_on_any_node_is_named_on_every_one(
    hosts: list[NodeLaunch], own: Path, tmp_path: Path, command: str, fault: str, culprit: int
) -> None:
    model = f"model.use={PROGRAMS / 'fault_model.py'}:model"
    what = {
        "train": ([str(own / "own.yaml"), model], []),
        "run": ([], [str(PROGRAMS / "fault_script.py"), fault, str(culprit), "middle"]),
    }[command]
    planted = {
        "FAULT": f"{fault} {culprit} middle",
        "FAULT_READY": str(tmp_path / "ready"),
        "FAULT_ORPHAN_SLEEP": "601",
    }
    options = ("--name", "far", "--hang-timeout", HANG_TIMEOUT)
    nodes = start_two_nodes(hosts, command, *what[0], *options, *what[1], environment=planted)
    ends = [node.end() for node in nodes]
    for status, _, err in ends:
        card = err[err.rindex("error: ") :]
        assert status == 5, err
        assert card.startswith(f"error: rank {culprit} of 3 {HANGS[fault]}"), err
        assert (f" on {socket.gethostname()}" in card) == (culprit == 2), err  # node 0 says it of the others
        assert "wait for it in" in card
        assert len(card.splitlines()) <= 12
    for node in nodes:
        node.check_nothing_is_left()
    assert outcome_of("far")["exit_code"] == 5


@pytest.mark.exhaustive
@pytest.mark.parametrize("culprit", [0, 2])
def test_a_limit_that_was_learned_holds_on_every_node_and_is_said(
    hosts: list[NodeLaunch], own: Path, culprit: int
) -> None:
    """Not the fixed one of ten minutes; node 0 learns from the ranks of both and tells the other node."""
    config = (str(own / "own.yaml"), f"model.use={PROGRAMS / 'fault_model.py'}:model", "train.epochs=9")
    nodes = start_two_nodes(
        hosts, "train", *config, "--name", "learned", "--hang-timeout-min", HANG_TIMEOUT,
        environment={"FAULT": f"stop {culprit} middle", "FAULT_CALLS": "150"},
    )  # fmt: skip
    for status, _, err in [node.end() for node in nodes]:
        card = err[err.rindex("error: ") :]
        assert (status, card.startswith(f"error: rank {culprit} of 3 {HANGS['stop']}")) == (5, True), err
        assert "is this run's own: its slowest step took" in card, err
        assert "if it only needs longer: --hang-timeout-min above" in card, err
        assert len(card.splitlines()) <= 12


@pytest.mark.exhaustive
@pytest.mark.parametrize("node", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_signal_to_any_node_stops_all_at_one_step(
    hosts: list[NodeLaunch], launch: Launch, own: Path, node: int
) -> None:
    arguments = (str(own / "own.yaml"), "train.epochs=3000", "--name", "long")
    nodes = start_two_nodes(hosts, "train", *arguments)
    record = run_folder("long") / "metrics.jsonl"
    deadline = time.monotonic() + WATCHDOG
    while not (record.exists() and '"epoch"' in record.read_text()):
        assert time.monotonic() < deadline
        assert nodes[0].process.poll() is None, nodes[0].end()
        time.sleep(0.05)
    nodes[node].process.send_signal(signal.SIGTERM)
    ends = [one.end() for one in nodes]
    assert [end[0] for end in ends] == [75, 75], ends
    assert outcome_of("long")["status"] == "stopped"


@pytest.mark.parametrize("victim", [1, pytest.param(0, marks=pytest.mark.exhaustive)])
def test_a_node_that_is_killed_ends_the_other(hosts: list[NodeLaunch], own: Path, victim: int) -> None:
    nodes = start_two_nodes(hosts, "train", str(own / "own.yaml"), "train.epochs=3000", "--name", "torn")
    record = run_folder("torn") / "metrics.jsonl"
    deadline = time.monotonic() + WATCHDOG
    while not record.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    nodes[victim].process.kill()
    status, _, err = nodes[1 - victim].end()
    assert status == 4, err
    assert f"error: node {victim} (" in err
    assert "was lost" in err
    for node in nodes:
        node.check_nothing_is_left()


def test_what_makes_no_sense_is_refused(launch: Launch) -> None:
    far = launch("train", "--nodes", "2", "--node-rank", "2", "--name", "x")
    assert (far.status, "there are 2 nodes, counted from 0" in far.err) == (2, True)
    port = launch("train", "--nodes", "2", "--rendezvous", "host", "--name", "x")
    assert (port.status, "not HOST:PORT" in port.err) == (2, True)
    foreign = launch("train", "--nodes", "2", "--rendezvous", "192.0.2.77:29400", "--name", "x")
    assert (foreign.status, "cannot listen there" in foreign.err) == (3, True)
    nameless = launch("train", "--nodes", "2", "--node-rank", "1")
    assert (nameless.status, "the same --name" in nameless.err) == (2, True)


def test_a_node_that_cannot_be_reached_is_named_with_its_address_and_port(
    hosts: list[NodeLaunch], tmp_path: Path
) -> None:
    script, port = tmp_path / "script.py", free_port()
    script.write_text(SCRIPT)
    place = ["--rendezvous", f"127.0.0.1:{port}", "--nodes", "2", "--cpu", "1"]
    hosts.append(
        NodeLaunch(["run", *place, "--node-rank", "1", str(script)], environment={"LOCKSTEP_KEY": "secret"})
    )
    assert hosts[0].process.stderr is not None
    said = hosts[0].process.stderr.readline()
    assert said == f"waiting for node 0 of 2: 127.0.0.1:{port}: Connection refused\n"
    hosts[0].process.send_signal(signal.SIGTERM)
    assert hosts[0].end()[0] == 128 + signal.SIGTERM
    with socket.create_server(("127.0.0.1", 0)) as open_one:
        places = {"2": open_one.getsockname()[:2], "3": ("127.0.0.1", port)}
        assert unreachable_addresses(places) == [[3, f"127.0.0.1:{port}", "Connection refused"]]


def test_somebody_without_the_secret_is_turned_away(hosts: list[NodeLaunch], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    place = ("--rendezvous", f"127.0.0.1:{free_port()}")
    own = ["run", "--cpu", "1", "--nodes", "2", *place]
    hosts.append(NodeLaunch([*own, str(script)], environment={"LOCKSTEP_KEY": "right"}))
    hosts.append(NodeLaunch([*own, "--node-rank", "1", str(script)], environment={"LOCKSTEP_KEY": "wrong"}))
    stranger = hosts[1]
    assert stranger.process.stderr is not None
    assert "is not node 0 of this launch" in stranger.process.stderr.readline()
    assert hosts[0].process.poll() is None
    for host in hosts:
        host.process.send_signal(signal.SIGINT)
    assert "was turned away" in hosts[0].end()[2]


def test_nodes_that_start_other_things_are_refused(
    hosts: list[NodeLaunch], tmp_path: Path, own: Path
) -> None:
    place = ["--rendezvous", f"127.0.0.1:{free_port()}", "--nodes", "2", "--name", "mixed", "--cpu", "1"]
    key = {"LOCKSTEP_KEY": "secret"}
    hosts.append(NodeLaunch(["train", str(own / "own.yaml"), *place], environment=key))
    (tmp_path / "script.py").write_text(SCRIPT)
    hosts.append(
        NodeLaunch(["run", *place, "--node-rank", "1", str(tmp_path / "script.py")], environment=key)
    )
    status, _, err = hosts[1].end()
    assert (status, "node 0 has refused this node" in err) == (2, True), err
    hosts[0].process.send_signal(signal.SIGINT)


NAMESPACES = os.geteuid() == 0 and shutil.which("ip") is not None


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


@pytest.fixture
def cable() -> Iterator[tuple[str, str]]:
    """Two hosts, each a network namespace, and a cable between them: 10.77.0.1 and 10.77.0.2."""
    tag = uuid.uuid4().hex[:6]
    names = f"ls{tag}a", f"ls{tag}b"
    try:
        for name in names:
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            f"v{tag}a",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            f"v{tag}b",
            "netns",
            names[1],
        )
    except subprocess.CalledProcessError as error:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    for number, (name, device) in enumerate(zip(names, (f"v{tag}a", f"v{tag}b"), strict=True), start=1):
        ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", device)
        ip("-n", name, "link", "set", device, "up")
        ip("-n", name, "link", "set", "lo", "up")
    yield names
    for name in names:
        subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True)
        ip("netns", "del", name)


@pytest.mark.exhaustive
@pytest.mark.skipif(not NAMESPACES, reason="needs root and ip, for network namespaces")
def test_a_cable_that_is_cut_ends_both_sides_with_the_right_card(
    hosts: list[NodeLaunch], own: Path, cable: tuple[str, str]
) -> None:
    for rank, name in enumerate(cable):
        where = ["--nodes", "2", "--node-rank", str(rank), "--rendezvous", "10.77.0.1:29400"]
        patience = ["--node-timeout", "4", "--cpu", "1", "--name", "cut"]
        arguments = ["train", str(own / "own.yaml"), "train.epochs=3000", *where, *patience]
        hosts.append(NodeLaunch(arguments, prefix=("ip", "netns", "exec", name)))
    record = run_folder("cut") / "metrics.jsonl"
    deadline = time.monotonic() + WATCHDOG
    while not (record.exists() and '"epoch"' in record.read_text()):
        assert time.monotonic() < deadline
        assert hosts[0].process.poll() is None, hosts[0].end()
        time.sleep(0.05)
    listening = [
        connection.laddr
        for host in hosts
        for process in host.family()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} <= {"10.77.0.1", "10.77.0.2"}
    ip("-n", cable[1], "link", "set", "lo", "down")
    device = next(path for path in _devices(cable[1]) if path != "lo")
    ip("-n", cable[1], "link", "set", device, "down")
    for rank, host in enumerate(hosts):
        status, _, err = host.end()
        assert status == 4, err
        assert f"error: node {1 - rank} (" in err, err
        assert "was lost: no word from it for 4 s" in err
        host.check_nothing_is_left()


def _devices(name: str) -> list[str]:
    done = subprocess.run(
        ["ip", "-n", name, "-j", "link"], check=True, capture_output=True, text=True, timeout=20
    )
    return [row["ifname"] for row in json.loads(done.stdout)]

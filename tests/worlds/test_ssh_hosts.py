"""Hosts that ``--hosts`` starts by ssh, in the worlds of other starters: right, stale, doubled and contradictory.

What is right or lies on a host is tried with real sshd in network namespaces; a refusal comes before any ssh.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.launch import Launch, outcome_of, runs_folder
from tests.helpers.node_launch import NodeLaunch
from tests.helpers.run_records import DIGESTS
from tests.helpers.ssh_hosts import NEEDS_SSHD, SshNetwork, ssh_network
from tests.worlds import planted
from tests.worlds.planted import Environment, Place
from tests.worlds.starters import environments

AT = Place(2, 2, 1, 0)
LEFT: dict[str, Environment] = {
    "nothing": {},
    "stale": {**planted.mpich(AT), "PMI_FD": "917"},
    "doubled": {**planted.open_mpi(AT), **planted.torchrun(Place(2, 1, 0))},
    "contradictory": {"RANK": "9", "WORLD_SIZE": "2", "PET_NNODES": "3", "PET_NODE_RANK": "0"},
}
"""What a host's own environment has, of starters that are none of its launch's."""


@pytest.fixture
def network(tmp_path: Path) -> Iterator[SshNetwork]:
    folder = tmp_path / "ssh"
    folder.mkdir()
    with ssh_network(folder, ("a", "b")) as network:
        yield network


@NEEDS_SSHD
@pytest.mark.exhaustive
@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("names", ["a", "b", "ab"])
@pytest.mark.parametrize("left", LEFT)
def test_hosts_are_the_world_whatever_their_own_environment_has(
    network: SshNetwork, hosts: list[NodeLaunch], launch: Launch, own: Path,
    monkeypatch: pytest.MonkeyPatch, left: str, names: str, each: int,
) -> None:  # fmt: skip
    monkeypatch.chdir(own)
    variables = " ".join(f"{name}={value}" for name, value in LEFT[left].items())
    network["b"].start(more=f"SetEnv {variables}" if variables else "")
    listed = ",".join(f"{name}:{each}" for name in names)
    train = ["train", "own.yaml", "--hosts", listed, "--name", "many"]
    hosts.append(NodeLaunch(train, prefix=network["a"].prefix, environment=network.environment))
    status, _, err = hosts[-1].end()
    assert status == 0, err
    assert (
        launch("train", str(own / "own.yaml"), "--cpu", str(each * len(names)), "--name", "one").status == 0
    )
    many, one = outcome_of("many"), outcome_of("one")
    assert many["world_size"] == each * len(names)
    for key in (*DIGESTS, "ranks"):
        assert many[key] == one[key], key
    network.check_nothing_is_left()


@pytest.mark.parametrize("left", [left for left in LEFT if left != "nothing"])
def test_a_command_that_another_starter_may_have_copied_starts_no_hosts(launch: Launch, left: str) -> None:
    """Each copy would start them all: one per task."""
    result = launch("train", "--hosts", "nowhere-a,nowhere-b", "--name", "many", env=LEFT[left])
    assert (result.status, "--ignore-world" in result.err) == (2, True), result.err
    assert "ssh" not in result.err
    assert not runs_folder().exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["torchrun", "Open MPI", "MPICH"])
def test_the_variables_of_a_real_start_that_is_over_start_no_hosts(
    launch: Launch, name: str, tmp_path: Path
) -> None:
    for environment in environments(name, 2, tmp_path / "seen"):
        result = launch("train", "--hosts", "nowhere-a,nowhere-b", "--name", "many", env=environment)
        assert (result.status, "that is over" in result.err) == (2, True), result.err
        assert not runs_folder().exists()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("--hosts", "a,b", "--nodes", "2"), "the hosts are the nodes"),
        (("--hosts", "a,b", "--node-rank", "0"), "the hosts are the nodes"),
        (("--hosts", "a,b,a"), "a"),
        (("--hosts", "a:0,b"), "a:0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_hosts_that_contradict_what_else_was_asked_are_refused(
    launch: Launch, asked: tuple[str, ...], says: str
) -> None:
    result = launch("train", "--name", "many", *asked)
    assert (result.status, says in result.err) == (2, True), result.err
    assert not runs_folder().exists()

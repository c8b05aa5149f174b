"""What is found out about hosts before anything is started, and the card that tells of it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lockstep.data.common.errors import LockstepError, MachineError, UsageError
from lockstep.launcher.hosts.connection import Connection, host_command
from lockstep.launcher.hosts.host_checks import Meeting, reach
from lockstep.launcher.hosts.host_group import HostGroup
from lockstep.launcher.hosts.host_list import Host
from lockstep.launcher.hosts.preflight import Problem, check_hosts, refusal

Group = Callable[..., HostGroup]


@pytest.fixture
def group() -> Iterator[Group]:
    """Processes as on hosts, but all on this machine."""
    opened: list[HostGroup] = []

    def on(count: int) -> HostGroup:
        opened.append(HostGroup([Host("localhost")] * count, lambda *_: None))
        return opened[-1]

    yield on
    for one in opened:
        one.__exit__(None, None, None)


def test_the_problems_of_all_hosts_are_one_card() -> None:
    network, folder = (
        Problem("b", "ssh: no route\nlost", "look"),
        Problem("c", "not there", "make it", UsageError),
    )
    error = refusal([folder, network], 3)
    assert error.message == "2 of 3 hosts cannot take part\nc: not there\nb: ssh: no route\n  lost"
    assert (type(error), error.hint) == (MachineError, "make it; look")
    assert refusal([network, network], 2).message.startswith("none of the hosts can take part\n")
    assert refusal([network, network], 2).hint == "look"
    alone = refusal([folder], 3)
    assert (type(alone), alone.message) == (UsageError, "host c: not there")


def test_ssh_never_asks_and_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKSTEP_KEY", "a-secret")
    monkeypatch.setenv("LOCKSTEP_SSH", "ssh -F 'my config'")
    command = host_command(Host("b", "ada", 4))
    assert command[:4] == ["ssh", "-F", "my config", "-T"]
    assert "BatchMode=yes" in command
    assert command[-3:-1] == ["--", "ada@b"]
    assert "a-secret" not in " ".join(command)
    assert host_command(Host("localhost"))[0] != "ssh"


def test_hosts_that_are_well_meet_at_an_address_that_all_reach(group: Group, tmp_path: Path) -> None:
    host, _, port = check_hosts(group(2), tmp_path / "runs", "").rpartition(":")
    assert host
    assert port.isdigit()
    assert (tmp_path / "runs").is_dir()


def test_a_single_host_needs_no_place_to_meet_and_a_given_one_is_taken(group: Group) -> None:
    assert check_hosts(group(1), None, "") == ""
    assert check_hosts(group(2), None, "10.0.0.1:29400") == "10.0.0.1:29400"


def test_a_folder_that_cannot_be_made_is_named(group: Group, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UsageError, match=r"host localhost: .*a run folder cannot be made here: (Not a dir|File ex)"
    ):
        check_hosts(group(2), tmp_path / "file" / "runs", "")


def test_a_folder_that_is_not_the_same_is_told_from_one_that_is_missing(group: Group, tmp_path: Path) -> None:
    hosts = group(1)
    hosts.wait(lambda connection: connection.hello is not None, 30)
    (tmp_path / "there").mkdir()
    for folder, word in (("there", "not the same folder"), ("no/such", "there is no such folder")):
        mark = {"folder": str(tmp_path / folder), "word": "x"}
        ((_, answer),) = hosts.ask("find mark", {0: mark}, 30)
        assert answer is not None
        assert word in answer["error"]


def test_another_listener_at_an_address_is_not_taken_for_node_0() -> None:
    meeting = Meeting("the word")
    meeting_places = meeting.places
    try:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            gone = closed.getsockname()[:2]
        failed = reach([*meeting.places, gone], "the word")["failed"]
        assert failed == [*[""] * len(meeting.places), "Connection refused"]
        assert set(reach(meeting.places, "another")["failed"]) == {"another machine has this address"}
    finally:
        meeting.close()
    for place in meeting_places:  # they are the launch's now
        with socket.create_server(place, family=socket.AF_INET6 if ":" in place[0] else socket.AF_INET):
            pass


@pytest.mark.parametrize("how", ["closed", "SIGTERM", "SIGUSR1"])
def test_a_host_s_process_that_has_started_nothing_ends_with_the_command(how: str) -> None:
    connection = Connection(Host("localhost"), 0)
    try:
        wait(connection, lambda: connection.hello is not None)
        assert connection.hello is not None
        assert connection.hello["gpus"] == 0
        if how == "closed":
            connection.hang_up()
        else:
            os.kill(connection._process.pid, signal.Signals[how])
        wait(connection, lambda: connection.is_over)
        assert connection._process.returncode == 0
    finally:
        connection.end()


def wait(connection: Connection, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        for _ in connection.turn():
            pass
        time.sleep(0.02)


def test_a_python_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, group: Group) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setenv("LOCKSTEP_SSH", "sh -c 'for last; do :; done; eval \"$last\"'")
    with pytest.raises(LockstepError) as refused:
        check_hosts(HostGroup([Host("b")], lambda *_: None), None, "")
    assert refused.value.exit_status == 3
    assert refused.value.message.startswith("host b: there is no /nowhere/python there (")

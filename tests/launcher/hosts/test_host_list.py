"""How hosts are named, on the command line and in a file."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.hosts.host_list import Host, find_hosts


def read(path: Path, text: str) -> list[Host]:
    path.write_text(text)
    return find_hosts(None, path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", [Host("a")]),
        ("a,b:4, c ", [Host("a"), Host("b", processes=4), Host("c")]),
        ("ada@gpu-1.example.org:8", [Host("gpu-1.example.org", "ada", 8)]),
        ("10.0.0.7:2,10.0.0.8", [Host("10.0.0.7", processes=2), Host("10.0.0.8")]),
        ("[2001:db8::7]:4,[fe80::1%eth0]", [Host("2001:db8::7", processes=4), Host("fe80::1%eth0")]),
        ("ada@[2001:db8::7]", [Host("2001:db8::7", "ada")]),
    ],
)
def test_hosts_are_read(text: str, expected: list[Host]) -> None:
    assert find_hosts(text, None) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a host's name is missing"),
        ("a,,b", "a host's name is missing"),
        ("a:0", "a host without processes"),
        ("a:b", "'a:b': not a host"),
        ("a:-1", "'a:-1': not a host"),
        ("-oProxyCommand=x", "not a host"),
        ("ada@-x", "not a host"),
        ("a b", "not a host"),
        ("a;rm", "'a;rm': not a host"),
        ("a$(id)", "not a host"),
        ("2001:db8::7", "write an IPv6 address as [2001:db8::7]"),
        ("a,b,A", "A is named twice"),
        ("a,ada@a", "a is named twice"),
        ("localhost,127.0.0.1", "localhost and 127.0.0.1 are one machine"),
        (f"localhost,{socket.gethostname()}", "are one machine"),
    ],
)
def test_what_is_no_list_of_hosts_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        find_hosts(text, None)
    assert says in f"{refused.value.message} {refused.value.hint}"
    assert refused.value.message.startswith("--hosts: ")


def test_a_hostfile_has_a_host_on_each_line_in_any_of_the_usual_forms(tmp_path: Path) -> None:
    text = "# two racks\na\nb:4   # four\n\nada@c slots=2\nd slots = 3 max_slots=8\n[::7]:2\ne max-slots=4\n"
    assert read(tmp_path / "hosts", text) == [
        Host("a"),
        Host("b", processes=4),
        Host("c", "ada", 2),
        Host("d", processes=3),
        Host("::7", processes=2),
        Host("e"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\nb slots=x\n", "line 2: b slots=x: not a host"),
        ("a b\n", "line 1: a b: not a host"),
        ("a:2 slots=4\n", "line 1: a:2 slots=4: not a host"),
        ("a slots=0\n", "line 1: a host without processes"),
        ("a\na\n", "a is named twice"),
        ("# nobody\n", "no host in it"),
    ],
)
def test_a_hostfile_with_a_mistake_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(tmp_path / "hosts", text)
    assert says in refused.value.message
    assert str(tmp_path / "hosts") in refused.value.message


def test_a_hostfile_that_is_missing_or_not_wanted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        find_hosts(None, tmp_path / "hosts")
    with pytest.raises(UsageError, match="both name the hosts"):
        find_hosts("a", tmp_path / "hosts")


def test_this_machine_is_known_by_its_names_and_addresses() -> None:
    own = socket.gethostname()
    for name in ("localhost", "127.0.0.1", "::1", own, own.upper(), own.partition(".")[0]):
        assert Host(name).is_here, name
    assert Host(own, getpass.getuser()).is_here
    assert not Host(own, "somebody-else").is_here
    assert not Host("192.0.2.1").is_here
    assert not Host(f"{own}-2").is_here

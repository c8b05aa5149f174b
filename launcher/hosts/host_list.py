"""Which hosts a launch runs on, as ``--hosts`` or a hostfile names them."""

from __future__ import annotations

import getpass
import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...data.common import UsageError
from ..nodes import interface_of

_WORD = "[A-Za-z0-9_][A-Za-z0-9_.-]*"  # ssh puts it into commands of its user's config, which a shell reads
_FORM = re.compile(
    rf"(?:(?P<user>{_WORD})@)?(?:\[(?P<bracketed>[0-9A-Za-z:.%]+)\]|(?P<name>{_WORD}))(?::(?P<count>[0-9]{{1,5}}))?"
)
_SLOTS = re.compile(r"(?P<key>slots|max[-_]slots)\s*=\s*(?P<count>[0-9]{1,5})")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Host:
    """One of the hosts, as its user has written it."""

    name: str
    """As ssh gets it; an IPv6 address stands here without its brackets."""
    user: str = ""
    processes: int | None = None
    """How many processes it gets; None leaves it to ``--gpus``, ``--cpu`` or to what the host has."""

    @property
    def destination(self) -> str:
        """Of ssh."""
        return f"{self.user}@{self.name}" if self.user else self.name

    @cached_property
    def is_here(self) -> bool:
        """Whether it is this machine, and this user: it is reached without ssh."""
        return self.user in ("", _user()) and _is_this_machine(self.name)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in containers
        return str(os.getuid())


def _is_this_machine(name: str) -> bool:
    own = socket.gethostname().lower()
    if name.lower() in (*_LOOPBACK, own, own.partition(".")[0]):
        return True
    try:
        return interface_of(str(ipaddress.ip_address(name))) is not None
    except ValueError:
        return False


def find_hosts(hosts: str | None, hostfile: Path | None) -> list[Host]:
    """Read the hosts from ``--hosts`` or from the file of ``--hostfile``; node 0 first.

    Raises:
        UsageError: they cannot be read as hosts, or one is named twice.
    """
    if hosts is not None and hostfile is not None:
        raise UsageError("--hosts and --hostfile: both name the hosts", "leave one of them out")
    if hostfile is not None:
        return _read_hostfile(hostfile)
    return _without_doubles([_host(word, "--hosts") for word in (hosts or "").split(",")], "--hosts")


def _host(word: str, where: str) -> Host:
    word = word.strip()
    match = _FORM.fullmatch(word)
    if match is None:
        if word.count(":") > 1 and "[" not in word:
            raise UsageError(f"{where}: {word}: not a host", f"write an IPv6 address as [{word}]")
        what = f"{word!r}: not a host" if word else "a host's name is missing"
        raise UsageError(f"{where}: {what}", "name hosts as a, a:4 (four processes), user@a or [::1]:4")
    count = match["count"]
    return Host(
        match["bracketed"] or match["name"], match["user"] or "", _processes(count, f"{where}: {word}")
    )


def _processes(count: str | None, where: str) -> int | None:
    if count is not None and not int(count):
        raise UsageError(f"{where}: a host without processes", "leave the host out, or give it at least one")
    return None if count is None else int(count)


def _read_hostfile(path: Path) -> list[Host]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UsageError(
            f"--hostfile {path}: {why}", "it has one host on each line: a, a:4 or a slots=4"
        ) from error
    hosts = [
        _of_line(words, f"{path}, line {number}")
        for number, line in enumerate(lines, start=1)
        if (words := line.partition("#")[0].split(maxsplit=1))
    ]
    if not hosts:
        raise UsageError(f"--hostfile {path}: no host in it", "write one on each line: a, a:4 or a slots=4")
    return _without_doubles(hosts, str(path))


def _of_line(words: Sequence[str], where: str) -> Host:
    """Read ``a``, ``a:4``, or ``a slots=4 max_slots=8`` as Open MPI and DeepSpeed write it."""
    host, rest = _host(words[0], where), words[1].strip() if len(words) > 1 else ""
    slots = {match["key"]: match["count"] for match in _SLOTS.finditer(rest)}
    if _SLOTS.sub("", rest).strip() or (host.processes is not None and "slots" in slots):
        raise UsageError(f"{where}: {' '.join(words)}: not a host", "write a, a:4 or a slots=4")
    if "slots" not in slots:
        return host
    return Host(host.name, host.user, _processes(slots["slots"], where))


def _without_doubles(hosts: Iterable[Host], where: str) -> list[Host]:
    """Refuse a host that is named twice: two nodes on one machine would take the same GPUs and cores."""
    found: dict[str, Host] = {}
    for host in hosts:
        key = "this machine" if _is_this_machine(host.name) else host.name.lower()
        if key in found:
            twice = f"{found[key].name} and {host.name} are one machine"
            what = f"{host.name} is named twice" if found[key].name.lower() == host.name.lower() else twice
            raise UsageError(f"{where}: {what}", f"name it once, with all its processes: {host.name}:N")
        found[key] = host
    return list(found.values())

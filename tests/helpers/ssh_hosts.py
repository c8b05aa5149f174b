"""Hosts of their own on this machine: network namespaces at one switch, each with a real sshd and its own mounts."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

_SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
_SECONDS = 30
NEEDED = os.geteuid() == 0 and shutil.which("ip") is not None and Path(_SSHD).exists()
NEEDS_SSHD = pytest.mark.skipif(not NEEDED, reason="needs root, ip and sshd, for hosts in network namespaces")

_SERVER = """
Port 22
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
MaxStartups 100
{more}
"""
_CLIENT = """
Host *
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""


def run(*command: str | Path) -> None:
    """Run a command that has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")


@dataclass
class SshHost:
    """A host: a network namespace, its address, and its sshd while that runs."""

    name: str
    namespace: str
    address: str
    folder: Path
    sshd: subprocess.Popen[bytes] | None = None

    @property
    def prefix(self) -> tuple[str, ...]:
        """Before a command that is to run on it."""
        named = ("unshare", "-u", "sh", "-c", f'hostname {self.name}; exec "$@"', "-")
        return ("ip", "netns", "exec", self.namespace, *named)

    def start(self, setup: str = "true", more: str = "") -> None:
        """Start its sshd.

        Args:
            setup: shell commands before that, such as mounts, which are this host's alone.
            more: lines of its configuration.
        """
        config = self.folder / f"sshd-{self.name}.conf"
        config.write_text(_SERVER.format(address=self.address, folder=self.folder, more=more))
        shell = f"hostname {self.name}; {setup} && exec {_SSHD} -D -e -f {shlex.quote(str(config))}"
        with (self.folder / f"sshd-{self.name}.log").open("wb") as log:
            self.sshd = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, "unshare", "-m", "-u", "sh", "-c", shell],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self._wait()

    def _wait(self) -> None:
        """Wait until it listens."""
        deadline = time.monotonic() + _SECONDS
        probe = ["ip", "netns", "exec", self.namespace, sys.executable, "-c"]
        code = f"import socket; socket.create_connection(({self.address!r}, 22), timeout=5).recv(3)"
        while subprocess.run([*probe, code], capture_output=True, timeout=_SECONDS, check=False).returncode:
            log = (self.folder / f"sshd-{self.name}.log").read_text()
            assert self.sshd is not None
            assert self.sshd.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.05)

    @property
    def sessions(self) -> list[psutil.Process]:
        """What ssh has started on it, and what that has started, as far as it still lives."""
        if self.sshd is None or self.sshd.poll() is not None:
            return []
        every = psutil.Process(self.sshd.pid).children(recursive=True)
        return [process for process in every if process.status() != psutil.STATUS_ZOMBIE]

    def unplug(self) -> None:
        """Cut its cable."""
        run("ip", "-n", self.namespace, "link", "set", "eth0", "down")


@dataclass
class SshNetwork:
    """Hosts at one switch, and the ssh that reaches them by their names."""

    hosts: dict[str, SshHost] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    """Of a command that is to reach them."""

    def __getitem__(self, name: str) -> SshHost:
        return self.hosts[name]

    def check_nothing_is_left(self) -> None:
        """See that nothing of any ssh session still runs."""
        deadline = time.monotonic() + _SECONDS
        while left := [process for host in self.hosts.values() for process in host.sessions]:
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


@contextmanager
def ssh_network(folder: Path, names: Sequence[str]) -> Iterator[SshNetwork]:
    """Lay the cables between hosts of these names; their sshd are to be started one by one."""
    tag = uuid.uuid4().hex[:6]
    switch, network = f"ls{tag}", SshNetwork()
    try:
        try:
            run("ip", "netns", "add", switch)
            run("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
            run("ip", "-n", switch, "link", "set", "br0", "up")
        except RuntimeError as error:
            pytest.skip(f"no network namespaces here: {error}")
        _make_keys(folder)
        for number, name in enumerate(names, start=1):
            network.hosts[name] = _connected(
                SshHost(name, f"{switch}{name}", f"10.78.0.{number}", folder), switch
            )
        network.environment = {"LOCKSTEP_SSH": f"ssh -F {_client(folder, network)}"}
        yield network
    finally:
        for host in network.hosts.values():
            if host.sshd is not None:
                for process in host.sessions:
                    process.kill()
                host.sshd.kill()
                host.sshd.wait()
            subprocess.run(["ip", "netns", "del", host.namespace], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", switch], check=False, capture_output=True)


def _make_keys(folder: Path) -> None:
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host_key", "user_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)


def _connected(host: SshHost, switch: str) -> SshHost:
    run("ip", "netns", "add", host.namespace)
    ends = f"to-{host.name}", "eth0"
    run("ip", "-n", switch, "link", "add", ends[0], "type", "veth", "peer", ends[1], "netns", host.namespace)
    run("ip", "-n", switch, "link", "set", ends[0], "master", "br0", "up")
    run("ip", "-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
    for device in ("eth0", "lo"):
        run("ip", "-n", host.namespace, "link", "set", device, "up")
    return host


def _client(folder: Path, network: SshNetwork) -> Path:
    key = (folder / "host_key.pub").read_text().strip()
    known = "".join(f"{host.address} {key}\n" for host in network.hosts.values())
    (folder / "known_hosts").write_text(known)
    names = "".join(f"Host {host.name}\n  HostName {host.address}\n" for host in network.hosts.values())
    config = folder / "ssh_config"
    config.write_text(names + _CLIENT.format(folder=folder))
    return config


def bind(path: Path, over: Path) -> str:
    """Write a shell command that lays ``path`` over another one, for ``SshHost.start``."""
    return f"mount --bind {shlex.quote(str(path))} {shlex.quote(str(over))}"

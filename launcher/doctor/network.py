"""Checks of the network: the loopback, by which ranks of one machine meet, and the other interfaces."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator

from ..nodes import interface_addresses
from .finding import FAIL, PASS, WARN, Finding

_SECONDS = 2.0
_ROUNDS = 20
_SLOW_SECONDS = 0.01


def loopback() -> Iterator[Finding]:
    """Measure a round over the loopback."""
    fix = "bring it up (`ip link set lo up`), and let no firewall filter it"
    try:
        seconds = _round_trip()
    except OSError as error:
        yield Finding("loopback", FAIL, f"127.0.0.1 cannot be reached: {error.strerror or error}", fix)
        return
    slow = seconds > _SLOW_SECONDS
    said = f"{1e6 * seconds:,.0f} us there and back"
    busy = "this machine is very busy: look at what runs with top" if slow else ""
    yield Finding("loopback", WARN if slow else PASS, said, busy, {"seconds": seconds})


def _round_trip() -> float:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_SECONDS)
        with socket.create_connection(server.getsockname()[:2], _SECONDS) as one:
            other, _ = server.accept()
            with other:
                other.settimeout(_SECONDS)
                taken = []
                for _ in range(_ROUNDS):
                    began = time.monotonic()
                    one.sendall(b"x")
                    other.sendall(other.recv(1))
                    one.recv(1)
                    taken.append(time.monotonic() - began)
    return min(taken)


def interfaces() -> Iterator[Finding]:
    """List the interfaces that are up, and see to what address the host's name leads."""
    found = [(name, address) for name, address in interface_addresses() if not _is_loopback(address)]
    said = ", ".join(f"{name} {address}" for name, address in found) or "only the loopback: one machine alone"
    yield Finding("interfaces", PASS, said, "", {"addresses": [list(pair) for pair in found]})


def host_name() -> Iterator[Finding]:
    """See that the host's own name leads somewhere; other nodes may be told it."""
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        fix = f"add `127.0.1.1 {name}` to /etc/hosts; between nodes use --rendezvous with an address"
        yield Finding("host name", WARN, f"{name} has no address", fix)
        return
    yield Finding("host name", PASS, f"{name} is {address}", "", {"name": name, "address": address})


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback

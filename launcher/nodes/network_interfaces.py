"""The network interfaces of this machine and their addresses, as the kernel tells them."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

_SIOCGIFCONF = 0x8912
_RECORD = 40  # bytes of one struct ifreq on 64-bit Linux: a name of 16, then a struct sockaddr
_MOST = 256


def interface_addresses() -> list[tuple[str, str]]:
    """Return (interface, address) of every interface that is up; IPv4 first, link-local IPv6 left out."""
    return [*_version_4(), *_version_6()]


def _version_4() -> list[tuple[str, str]]:
    buffer = bytearray(_RECORD * _MOST)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        address = _address_of(buffer)
        answer = fcntl.ioctl(asking, _SIOCGIFCONF, struct.pack("iL", len(buffer), address))
    length = struct.unpack("iL", answer)[0]
    records = [bytes(buffer[start : start + _RECORD]) for start in range(0, length, _RECORD)]
    return [(record[:16].split(b"\0")[0].decode(), socket.inet_ntoa(record[20:24])) for record in records]


def _address_of(buffer: bytearray) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _version_6() -> list[tuple[str, str]]:
    """Read a table in /proc with a line for each address: address, index, prefix, scope, flags, name."""
    try:
        rows = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    except OSError:
        return []
    found = [(row[5], ipaddress.IPv6Address(bytes.fromhex(row[0]))) for row in rows]
    return [(name, str(address)) for name, address in found if not address.is_link_local]


def interface_of(address: str) -> str | None:
    """Return the name of the interface with this address; None where none has it, as behind address translation."""
    return next((name for name, own in interface_addresses() if own == address), None)


def reachable_addresses() -> list[str]:
    """Return addresses that other machines may reach, and last the loopback's, for programs on this one."""
    every = [address for _, address in interface_addresses()]
    loopback = [address for address in every if ipaddress.ip_address(address).is_loopback]
    return [address for address in every if address not in loopback] + loopback[:1]

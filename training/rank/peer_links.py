"""The connections of a process group over gloo, and the end of all of them at once.

A rank that has noticed another's death waits in no collective any more, but those that wait for it do: gloo tells of an
end only those that are connected with who has ended. So it ends its own connections, and they notice. Torch's ``abort``
does nothing under gloo, and ``destroy_process_group`` keeps the connections for as long as anything refers to them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Links = dict[int, str]
"""Descriptor to what it is, by which it is known again: gloo closes one whose other end is gone."""
_DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def new_links(store_port: int) -> Iterator[Links]:
    """Collect the connections that are made inside, but for those with the store.

    Args:
        store_port: at which the store is.
    """
    found: Links = {}
    before = _sockets()
    yield found
    for descriptor, what in _sockets().items():
        ports = _ports(descriptor)
        if before.get(descriptor) != what and ports and store_port not in ports:
            found[descriptor] = what


def cut(links: Links) -> None:
    """End connections: all that waits on one, here and at its other end, fails at once."""
    sockets = _sockets()
    for descriptor, what in links.items():
        if sockets.get(descriptor) == what:
            with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as link:
                link.shutdown(socket.SHUT_RDWR)
    links.clear()


def _sockets() -> Links:
    found: Links = {}
    for path in _DESCRIPTORS.iterdir():
        with suppress(OSError):
            what = str(path.readlink())
            if what.startswith("socket:"):
                found[int(path.name)] = what
    return found


def _ports(descriptor: int) -> tuple[int, ...]:
    """Return the ports of a connection over TCP between processes of this machine; none of other sockets."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as link:
        if link.family in (socket.AF_INET, socket.AF_INET6):
            here, there = link.getsockname(), link.getpeername()
            return (int(here[1]), int(there[1])) if here[0] == there[0] else ()
    return ()

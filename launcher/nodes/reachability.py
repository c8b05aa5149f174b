"""Whether every node can connect to every other one: each listens for a moment, and the others try."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from ..options import place_text

REACH_SECONDS = 5.0
"""That a connection may take."""
_BACKLOG = 4096


@contextmanager
def open_probe(address: str, word: bytes = b"") -> Iterator[tuple[str, int]]:
    """Listen on a free port of an address; yield both. Whoever connects gets a short word and is sent away at once.

    Nobody may keep others out by staying, so connections are taken from the kernel's queue as they come.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, backlog=_BACKLOG) as listener:
        taking = threading.Thread(target=_take_all, args=(listener, word), name="probe", daemon=True)
        taking.start()
        try:
            yield listener.getsockname()[:2]
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
            taking.join()


def _take_all(listener: socket.socket, word: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except ConnectionError:  # of one that is over already
            continue
        except OSError:
            return
        with suppress(OSError), connection:
            connection.sendall(word)


def unreachable_addresses(places: dict[str, Any]) -> list[list[Any]]:
    """Return (node, place, reason) of those of ``places`` to which no connection can be made."""

    def reach(item: tuple[str, Any]) -> list[Any] | None:
        node, (host, port) = item
        try:
            socket.create_connection((host, port), timeout=REACH_SECONDS).close()
        except OSError as error:
            return [int(node), place_text(host, port), error.strerror or str(error)]
        return None

    with ThreadPoolExecutor(max_workers=16) as pool:
        return [row for row in pool.map(reach, places.items()) if row is not None]

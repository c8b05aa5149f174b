"""What a host's process looks at before anything is started: folders, and the way to node 0."""

from __future__ import annotations

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..machine import read_machine
from ..nodes import REACH_SECONDS, open_probe, reachable_addresses

_FOLDER_SECONDS = 5.0  # shared storage may show a new file late
_WORD_BYTES = 64


def describe_host() -> dict[str, Any]:
    """Say what the command that starts the hosts has to know of this one."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    return {"torch": torch, "gpus": len(read_machine().gpus), "host": socket.gethostname()}


def change_folder(folder: str) -> dict[str, Any]:
    """Work in the folder that the command was given in, from now on."""
    try:
        os.chdir(folder)
    except OSError as error:
        return {"error": error.strerror}
    return {"error": ""}


class FolderMark:
    """A file in a folder by which other hosts see that it is the same one.

    Args:
        folder: is made where it is missing.
        word: of this launch.
    """

    def __init__(self, folder: str, word: str) -> None:
        self._path = Path(folder, f".hosts-{word}")

    def put(self) -> dict[str, Any]:
        """Lay the mark."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        except OSError as error:
            return {"error": error.strerror}
        return {"error": ""}

    def find(self) -> dict[str, Any]:
        """Look for the mark."""
        deadline = time.monotonic() + _FOLDER_SECONDS
        while not self._path.exists():
            if time.monotonic() > deadline or not self._path.parent.parent.is_dir():
                is_there = self._path.parent.is_dir()
                return {"error": "not the same folder" if is_there else "there is no such folder"}
            with suppress(OSError):
                list(self._path.parent.iterdir())  # has some network file systems look again
            time.sleep(0.1)
        return {"error": ""}

    def remove(self) -> None:
        """Take the mark away, where there is one."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class Meeting:
    """The sockets on which node 0's host can be tried before its launch listens in their place.

    Whoever connects gets a word, so that nobody takes another machine's loopback, or a stranger, for node 0.

    Args:
        word: of this launch.
    """

    def __init__(self, word: str) -> None:
        self._probes = ExitStack()
        self.places: list[tuple[str, int]] = []
        """Where it listens; the loopback's last."""
        for host in reachable_addresses():
            with suppress(OSError):  # an address that is about to come or to go
                self.places.append(self._probes.enter_context(open_probe(host, word.encode())))

    def close(self) -> None:
        """Leave the ports to the launch."""
        self._probes.close()


def reach(places: list[tuple[str, int]], word: str) -> dict[str, Any]:
    """Try to reach node 0's host at each of its addresses; say why not, for each."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        return {"failed": list(pool.map(lambda place: _try(place[0], place[1], word.encode()), places))}


def _try(host: str, port: int, word: bytes) -> str:
    try:
        with socket.create_connection((host, port), timeout=REACH_SECONDS) as connection:
            said = connection.recv(_WORD_BYTES)
    except OSError as error:
        return error.strerror or str(error)
    return "" if said == word else "another machine has this address"

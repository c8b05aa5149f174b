"""What a host's process looks at before anything is started: folders, and the way to node 0."""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ...data.common import atomic_replacement
from ..machine import read_machine
from ..nodes import reachable_addresses

_REACH_SECONDS = 5.0
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
            with atomic_replacement(self._path, self._path.with_suffix(".part")) as part:
                part.write_text("", encoding="utf-8")
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

    Whoever connects is told a word, so that nobody takes another machine's loopback, or a stranger, for node 0.

    Args:
        word: of this launch.
    """

    def __init__(self, word: str) -> None:
        self._word = word.encode()
        self._listening = [listener for host in reachable_addresses() if (listener := _listen(host))]
        for listener in self._listening:
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    @property
    def places(self) -> list[tuple[str, int]]:
        """Where it listens; the loopback's last."""
        return [listener.getsockname()[:2] for listener in self._listening]

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):  # closed, which ends it
            while True:
                connection, _ = listener.accept()
                with suppress(OSError), connection:
                    connection.settimeout(_REACH_SECONDS)
                    connection.sendall(self._word)

    def close(self) -> None:
        """Leave the ports to the launch."""
        for listener in self._listening:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def _listen(host: str) -> socket.socket | None:
    try:
        return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError:
        return None


def reach(places: list[tuple[str, int]], word: str) -> dict[str, Any]:
    """Try to reach node 0's host at each of its addresses; say why not, for each."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        return {"failed": list(pool.map(lambda place: _try(place[0], place[1], word.encode()), places))}


def _try(host: str, port: int, word: bytes) -> str:
    try:
        with socket.create_connection((host, port), timeout=_REACH_SECONDS) as connection:
            said = connection.recv(_WORD_BYTES)
    except OSError as error:
        return error.strerror or str(error)
    return "" if said == word else "another machine has this address"

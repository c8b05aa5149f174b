"""Somebody who does not know the secret and connects to a port as often as it can; a program, too.

    python -m tests.helpers.hostile_peers HOST PORT SEED

does so until its stdin is closed, and prints how many connections it has made and how many bytes it has sent.
"""

from __future__ import annotations

import json
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Self

from lockstep.launcher.nodes.handshake import ANSWER_BYTES, CLOSING_BYTES, OPENING_BYTES, FollowerHandshake

HELD = 400  # connections that stay open
RESET = struct.pack("ii", 1, 0)
JSON = (
    b"[" * 4000,
    json.dumps({"challenge": "0" * 32, "proof": "0" * 64}).encode() + b"\n",
    b'{"kind": "end", "error": null, "exit_code": 0}\n',
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
    b"SSH-2.0-x\r\n",
)


def hostile_bytes(draw: random.Random) -> bytes:
    """What somebody says who does not know the secret, from nothing to a proof of another one."""
    opening = FollowerHandshake(b"not the secret").opening
    kind = draw.randrange(6)
    if kind == 0:
        return b""
    if kind == 1:
        return draw.choice(JSON)
    if kind == 2:
        return draw.randbytes(draw.choice((1, 15, OPENING_BYTES, ANSWER_BYTES, CLOSING_BYTES, 5000)))
    if kind == 3:
        return opening[: draw.randrange(len(opening))]
    changed = bytearray(opening + draw.randbytes(draw.randrange(40)))
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def dead_connection(place: tuple[str, int], said: bytes = b"") -> None:
    """Connect, and end the connection so that no trace of it is left."""
    connection = socket.create_connection(place)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.sendall(said)
    connection.close()


class Crowd:
    """Connections to one place: new ones all the time, of which some stay and say a byte now and then."""

    def __init__(self, place: tuple[str, int], seed: int) -> None:
        self._place = place
        self._draw = random.Random(seed)
        self._family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        self._held: deque[socket.socket] = deque()
        self._said = [hostile_bytes(self._draw) for _ in range(1000)]
        self.connections = self.bytes = 0

    def push(self) -> None:
        """Make one more connection."""
        connection = socket.socket(self._family, socket.SOCK_STREAM)
        connection.settimeout(0)
        with suppress(BlockingIOError):
            connection.connect(self._place)
        self._held.append(connection)
        if len(self._held) > HELD:
            self._end(self._held.popleft())
        self._say(self._held[self._draw.randrange(len(self._held))])

    def _say(self, connection: socket.socket) -> None:
        with suppress(OSError):
            self.bytes += connection.send(self._draw.choice(self._said))
            self.connections += 1

    def _end(self, connection: socket.socket) -> None:
        if self._draw.randrange(2):
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()

    def close(self) -> None:
        while self._held:
            self._held.popleft().close()


class Flood:
    """Crowds in processes of their own, until the block is left."""

    def __init__(self, place: tuple[str, int], processes: int, seed: int = 0) -> None:
        command = [sys.executable, "-m", "tests.helpers.hostile_peers", place[0], str(place[1])]
        self._processes = [
            subprocess.Popen(
                [*command, str(seed + n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for n in range(processes)
        ]
        self.connections = self.bytes = 0
        self.seconds = 0.0

    def __enter__(self) -> Self:
        for process in self._processes:
            assert process.stdout is not None
            process.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            out, _ = process.communicate("", timeout=60)
            connections, number, seconds = out.split()
            self.connections += int(connections)
            self.bytes += int(number)
            self.seconds = float(seconds)


def main() -> None:
    host, port, seed = sys.argv[1:]
    crowd, began = Crowd((host, int(port)), int(seed)), time.monotonic()
    for turn in range(sys.maxsize):
        with suppress(OSError):
            crowd.push()
        if turn == 100:
            print("begun", flush=True)
        if turn % 100 == 0 and select.select([sys.stdin], [], [], 0)[0]:
            break
    print(crowd.connections, crowd.bytes, time.monotonic() - began)


if __name__ == "__main__":
    main()

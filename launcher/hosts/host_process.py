"""The process that ``--hosts`` starts on each host: it starts the node's launch there, and ends it when ssh ends.

It reads orders from its stdin and answers on its stdout. When nobody speaks to it any more, the command that has
started it is gone or cannot be reached: the launch gets SIGTERM, and ends as at a SIGTERM of its user.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from ...data.common import STOP_SIGNALS, die_with_parent
from .carried_environment import node_environment
from .frames import ERR, OUT, control_frame, frame, hello_line
from .host_checks import FolderMark, Meeting, change_folder, describe_host, reach

LAUNCH_CODE = "import sys; sys.argv[0] = 'launch'; from lockstep.launcher.cli.app import main; main()"
_POLL_SECONDS = 0.2
_CHUNK = 1 << 16
_QUEUED_BYTES = 1 << 20  # more than this waiting for ssh, and the launch is not read for the time being
_LAST_SECONDS = 10.0
_SILENCE_SECONDS = 30.0
_STDIN, _STDOUT = 0, 1


class HostProcess:
    """The orders, the launch and its output."""

    def __init__(self) -> None:
        self._launch: subprocess.Popen[bytes] | None = None
        self._outputs: dict[int, int] = {}
        """Descriptor to stream."""
        self._met = -1
        self._in, self._out = bytearray(), bytearray()
        self._mark: FolderMark | None = None
        self._meeting: Meeting | None = None
        self._last_order = time.monotonic()
        self._is_alone = False
        self._status: int | None = None

    def serve(self) -> int:
        """Follow orders until the launch has ended, or nobody gives any; return the launch's status."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._pass_on)
        for descriptor in (_STDIN, _STDOUT):
            os.set_blocking(descriptor, False)
        self._out += hello_line(
            {"version": sys.modules["lockstep"].__dict__["__version__"], **describe_host()}
        )
        try:
            while not self._is_over():
                self._turn()
        finally:
            self._give_back()
        return self._status or 0

    def _is_over(self) -> bool:
        return self._status is not None if self._launch is not None else self._is_alone

    def _give_back(self) -> None:
        if self._mark is not None:
            self._mark.remove()
        if self._launch is not None:
            self._report("ended", status=self._status)
        deadline = time.monotonic() + _LAST_SECONDS
        while self._out and not self._is_alone and time.monotonic() < deadline:
            self._write()
            time.sleep(0.01)

    def _turn(self) -> None:
        with selectors.DefaultSelector() as selector:
            for descriptor in self._descriptors():
                selector.register(descriptor, selectors.EVENT_READ)
            if self._out:
                selector.register(_STDOUT, selectors.EVENT_WRITE)
            ready = {key.fd for key, _ in selector.select(_POLL_SECONDS)}
        if _STDIN in ready:
            self._read_orders()
        elif not self._is_alone and time.monotonic() - self._last_order > _SILENCE_SECONDS:
            self._left_alone()
        for descriptor in ready & set(self._outputs):
            self._read_output(descriptor)
        if self._met in ready:
            self._hear_of_meeting()
        self._look_for_end()
        self._write()

    def _descriptors(self) -> list[int]:
        outputs = self._outputs if len(self._out) < _QUEUED_BYTES else ()
        return [*([] if self._is_alone else [_STDIN]), *outputs, *([self._met] if self._met >= 0 else [])]

    def _read_orders(self) -> None:
        try:
            data = os.read(_STDIN, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._left_alone()
            return
        self._last_order = time.monotonic()
        self._in += data
        *lines, rest = bytes(self._in).split(b"\n")
        self._in = bytearray(rest)
        for line in lines:
            self._obey(json.loads(line))

    def _left_alone(self) -> None:
        """Ask the launch to end, as its user's SIGTERM would: nobody is there any more who could."""
        self._is_alone = True
        self._out.clear()
        self._pass_on(signal.SIGTERM, None)

    def _obey(self, order: dict[str, Any]) -> None:
        what = order["do"]
        if what == "folder":
            self._report(what, **change_folder(order["folder"]))
        elif what == "put mark":
            self._mark = FolderMark(order["folder"], order["word"])
            self._report(what, **self._mark.put())
        elif what == "find mark":
            self._report(what, **FolderMark(order["folder"], order["word"]).find())
        elif what == "listen":
            self._meeting = Meeting(order["word"])
            self._report(what, places=self._meeting.places)
        elif what == "reach":
            self._report(what, **reach([(host, port) for host, port in order["places"]], order["word"]))
        elif what == "start":
            self._start(order)
        elif what == "signal" and self._launch is not None:
            self._launch.send_signal(order["number"])

    def _report(self, kind: str, **values: Any) -> None:
        if not self._is_alone:
            self._out += control_frame({"kind": kind, **values})

    def _start(self, order: dict[str, Any]) -> None:
        """Start the node's launch; it ends when this process does, however that ends."""
        if self._mark is not None:
            self._mark.remove()
        if self._meeting is not None:
            self._meeting.close()
        self._met, met_writer = os.pipe()
        python_folder = str(Path(sys.executable).parent)
        environment = node_environment(os.environ, order["environment"], python_folder, order["key"])
        self._launch = subprocess.Popen(
            [sys.executable, "-P", "-c", LAUNCH_CODE, *order["arguments"]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(met_writer,),
            env={**environment, "LOCKSTEP_MEETING": str(met_writer)},
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no thread is left that could hold a lock
        )
        os.close(met_writer)
        for stream, pipe in ((OUT, self._launch.stdout), (ERR, self._launch.stderr)):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._outputs[pipe.fileno()] = stream
        if self._is_alone:  # by a signal that came while the launch was being started
            self._launch.send_signal(signal.SIGTERM)

    def _read_output(self, descriptor: int) -> bool:
        """Pass some output on; False where nothing more is there now."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            del self._outputs[descriptor]
        elif not self._is_alone:
            self._out += frame(self._outputs[descriptor], data)
        return bool(data)

    def _hear_of_meeting(self) -> None:
        if os.read(self._met, _CHUNK):
            self._report("met")
        os.close(self._met)
        self._met = -1

    def _look_for_end(self) -> None:
        if self._launch is None or (status := self._launch.poll()) is None:
            return
        for descriptor in list(self._outputs):
            while self._read_output(descriptor):
                pass
        self._status = 128 - status if status < 0 else status

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        """Pass a signal on to the launch; without one there is nothing to wait for."""
        if self._launch is not None:
            self._launch.send_signal(number)
        else:
            self._is_alone = True

    def _write(self) -> None:
        try:
            while self._out:
                del self._out[: os.write(_STDOUT, self._out[:_CHUNK])]
        except BlockingIOError:
            return
        except OSError:
            if not self._is_alone:
                self._left_alone()


def main() -> None:
    """Serve the command at the other end of stdin and stdout."""
    with suppress(KeyboardInterrupt):
        sys.exit(HostProcess().serve())

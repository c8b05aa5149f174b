"""The points of a sweep on this machine, one after the other; a failing one does not end the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO, Any

from ...data.common import STOP_SIGNALS, signal_name, take_signals
from ..console import print_messages
from ..runs import hold_run_lock, is_run, read_status, take_request, write_request
from .sweep_folder import Sweep, SweepPoint, forget_refusal, points_of, record_refusal

_LOOK_SECONDS = 0.1


def is_due(point: SweepPoint, *, retry: bool) -> bool:
    """Check whether a point should be launched: not if it is done, and if it has failed only when asked to retry."""
    return point.status in ("waiting", "stopped", "cancelled", "interrupted") or (
        retry and point.status == "failed"
    )


def run_points(sweep: Sweep, launch: dict[str, Any], ended: Callable[[], None], *, retry: bool) -> int | None:
    """Launch every point that is due.

    Args:
        sweep: whose.
        launch: ``gpus``, ``cpu`` and ``supervision`` of each.
        ended: called after each.
        retry: those that failed, too.

    Returns:
        The exit status where the sweep was interrupted; None where it went through.
    """
    with hold_run_lock(sweep.folder), _PointRunner(sweep, launch).listening() as runner:
        for point in points_of(sweep):
            if runner.stopped:
                break
            if is_due(point, retry=retry):
                print_messages(
                    [f"[{point.index + 1}/{len(sweep.points)}] {point.run}: {sweep.words(point.index)}"]
                )
                runner.launch(point.index)
                ended()
            elif point.status in ("running", "stopping"):
                print_messages([f"note: {point.run} is {point.status} already, and left alone"])
        return runner.exit_status


class _PointRunner:
    """Launches points, and passes on to the present one what asks the sweep to stop."""

    def __init__(self, sweep: Sweep, launch: dict[str, Any]) -> None:
        self._sweep = sweep
        self._launch = json.dumps(launch)
        self._child: subprocess.Popen[bytes] | None = None
        self._signals: list[int] = []
        self._asked = False

    @property
    def stopped(self) -> bool:
        """Whether the sweep was asked to stop."""
        return self._asked or bool(self._signals)

    @property
    def exit_status(self) -> int | None:
        """The status: 75 after one request to stop; a second one has ended the point without a checkpoint."""
        if len(self._signals) > 1:
            return 128 + self._signals[-1]
        return 75 if self.stopped else None

    @contextmanager
    def listening(self) -> Iterator[_PointRunner]:
        """Take signals, until the block is left; nothing that was launched outlives it."""
        before = take_signals(STOP_SIGNALS, self._on_signal)
        try:
            yield self
        finally:
            if self._child is not None and self._child.poll() is None:
                self._child.terminate()
                self._child.wait()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        if self._child is not None and self._child.returncode is None:
            self._child.send_signal(number)

    def launch(self, index: int) -> None:
        """Launch one point, and wait for its end."""
        forget_refusal(self._sweep, index)
        with tempfile.TemporaryFile() as output:
            status = self._wait(index, output)
            output.seek(0)
            self._note(index, status, output.read())

    def _wait(self, index: int, output: IO[bytes]) -> int:
        command = [
            sys.executable,
            "-P",
            "-m",
            "lockstep.launcher.sweep.point_process",
            str(self._sweep.folder),
            str(index),
        ]
        self._child = subprocess.Popen(
            [*command, str(os.getpid()), self._launch],
            stdin=subprocess.DEVNULL,
            stdout=output,
            start_new_session=True,  # a Ctrl-C reaches it once, by way of this process
            env={**os.environ, "LOCKSTEP_RUNS": str(self._sweep.folder.parent)},
        )
        if self._signals:  # it came while the process was being made
            self._pass_on(self._signals[-1])
        while True:
            with suppress(subprocess.TimeoutExpired):
                return self._child.wait(_LOOK_SECONDS)
            self._take_request(index)

    def _take_request(self, index: int) -> None:
        request = take_request(self._sweep.folder)
        if request is None or request.what == "checkpoint":
            return
        if request.what == "cancel" and is_run(self._sweep.run(index)):
            write_request(self._sweep.run(index), "cancel", request.by)
        elif self.stopped:
            return
        print_messages(
            [f"{'cancelling' if request.what == 'cancel' else 'stopping'} the sweep ({request.by})"]
        )
        self._asked = True
        self._pass_on(signal.SIGTERM)

    def _note(self, index: int, status: int, output: bytes) -> None:
        """Record a launch that failed before it had an outcome."""
        folder = self._sweep.run(index)
        lost = not is_run(folder) or not read_status(folder).outcome
        if status == 0 or self.stopped or not lost:
            return
        error: dict[str, Any] = {"message": f"its launcher ended with status {status}"}
        if status < 0:
            error = {"message": f"its launcher was killed by {signal_name(-status)}"}
        with suppress(ValueError, KeyError):
            error = json.loads(output)["error"]
        record_refusal(self._sweep, index, status if status > 0 else 128 - status, error)

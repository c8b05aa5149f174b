"""Runs the preparation of the data in a child that is thrown away: nothing heavy stays in the launcher.

Where ranks are to follow, it is a child of their agent, which imports torch anyway: a second import of it, for the
data alone, took a third of a small training's processor time.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ...data.common import RankLostError, error_from_json
from ...data.config import DataConfig, DatasetInfo

_LOOK_SECONDS = 0.2
SAME_HASHES = {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}
"""For every process of a run: a set's order must not differ between ranks, nor between training and evaluation."""


class Preparer(Protocol):
    """A process that can be asked once to prepare data."""

    def ask(self, question: str) -> int:
        """Ask; return the descriptor that the answer can be read from."""

    def exit_status(self) -> int | None:
        """Wait for its end; return its status where that is known."""


class _OwnChild:
    """A child of this process."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "lockstep.data.prepare"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is the launcher's: it ends this child without a traceback
            env={**os.environ, **SAME_HASHES},
        )

    def ask(self, question: str) -> int:
        """Ask; return the answer's descriptor. ``communicate`` with a timeout forgets what was not sent at once."""
        if self._child.stdin is None or self._child.stdout is None:
            raise TypeError("both are pipes")
        with suppress(BrokenPipeError):
            self._child.stdin.write(question)
            self._child.stdin.close()
        return os.dup(self._child.stdout.fileno())

    def exit_status(self) -> int:
        """Wait for its end; return its status."""
        if self._child.stdout is not None:
            self._child.stdout.close()
        return self._child.wait()

    def kill(self) -> None:
        """End it."""
        self._child.kill()
        self.exit_status()


class DataPreparation:
    """A started preparation; ``wait`` brings its result.

    Args:
        config: the ``data`` section.
        base: the folder of the config file.
        build_cache: decode images into the cache.
        by: the agent of the ranks that are to have the data, whose end is that of the preparation.
    """

    def __init__(
        self, config: DataConfig, base: Path, *, build_cache: bool = False, by: Preparer | None = None
    ) -> None:
        asked = {"data": config.model_dump(mode="json"), "base": str(base), "build_cache": build_cache}
        self._child = by or _OwnChild()
        self._answer = self._child.ask(json.dumps(asked))

    def wait(self, meanwhile: Callable[[str, str], None] = lambda *_: None) -> DatasetInfo:
        """Return the facts, once downloads and checks are done.

        Args:
            meanwhile: called several times a second, with what is done and how far it is.

        Raises:
            LockstepError: whatever the preparation found wrong.
        """
        try:
            output = self._answered(meanwhile)
            if isinstance(self._child, _OwnChild):
                self._child.exit_status()  # of an agent's only where it matters: it may be in the middle of an import
        except BaseException:
            if isinstance(self._child, _OwnChild):
                self._child.kill()
            raise
        finally:
            os.close(self._answer)
        return DatasetInfo.from_json(_found(output, self._child.exit_status)["facts"])

    def _answered(self, meanwhile: Callable[[str, str], None]) -> str:
        lines = [b""]
        doing = ("reading data", "")
        while True:
            if not select.select([self._answer], [], [], _LOOK_SECONDS)[0]:
                meanwhile(*doing)
                continue
            if not (chunk := os.read(self._answer, 1 << 16)):
                return lines[-1].decode(errors="replace")
            lines = (lines[-1] + chunk).split(b"\n")
            for line in lines[:-1]:
                what, far = json.loads(line)["progress"]
                doing = (str(what), str(far))


def _found(output: str, exit_status: Callable[[], int | None]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError as error:
        raise RankLostError(
            f"the preparation of the data ended with status {exit_status()} and without an answer",
            "its own output is above; if it was killed, the machine may be short of memory",
        ) from error
    if "error" in answer:
        raise error_from_json(answer["error"])
    return answer

"""Runs the preparation of the data in a child that is thrown away: nothing heavy stays in the launcher."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...data.common import RankLostError, error_from_json
from ...data.config import DataConfig, DatasetInfo

_LOOK_SECONDS = 0.2
SAME_HASHES = {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}
"""For every process of a run: a set's order must not differ between ranks, nor between training and evaluation."""


class DataPreparation:
    """A started preparation; ``wait`` brings its result."""

    def __init__(self, config: DataConfig, base: Path, *, build_cache: bool = False) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "lockstep.data.prepare"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is the launcher's: it ends this child without a traceback
            env={**os.environ, **SAME_HASHES},
        )
        asked = {"data": config.model_dump(mode="json"), "base": str(base), "build_cache": build_cache}
        self._question = json.dumps(asked)

    def wait(self, meanwhile: Callable[[str, str], None] = lambda *_: None) -> DatasetInfo:
        """Return the facts, once downloads and checks are through.

        Args:
            meanwhile: called several times a second, with what is done and how far it is.

        Raises:
            LockstepError: whatever the preparation found wrong.
        """
        try:
            output = self._answered(meanwhile)
        except BaseException:
            self._child.kill()
            self._child.wait()
            raise
        return DatasetInfo.from_json(self._answer(output)["facts"])

    def _answered(self, meanwhile: Callable[[str, str], None]) -> str:
        """Ask, and read the answer: ``communicate`` with a timeout forgets what it could not send at once."""
        question, answer = self._child.stdin, self._child.stdout
        if question is None or answer is None:
            raise TypeError("both are pipes")
        with suppress(BrokenPipeError):
            question.write(self._question)
            question.close()
        lines = [b""]
        doing = ("reading data", "")
        while True:
            if not select.select([answer], [], [], _LOOK_SECONDS)[0]:
                meanwhile(*doing)
                continue
            if not (chunk := os.read(answer.fileno(), 1 << 16)):
                self._child.wait()
                answer.close()
                return lines[-1].decode(errors="replace")
            lines = (lines[-1] + chunk).split(b"\n")
            for line in lines[:-1]:
                what, far = json.loads(line)["progress"]
                doing = (str(what), str(far))

    def _answer(self, output: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(output)
        except ValueError as error:
            raise RankLostError(
                f"the preparation of the data ended with status {self._child.returncode} and without an answer",
                "its own output is above; if it was killed, the machine may be short of memory",
            ) from error
        if "error" in answer:
            raise error_from_json(answer["error"])
        return answer

"""Runs the preparation of the data in a child that is thrown away: nothing heavy stays in the launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ...data.common import RankLostError, error_from_json
from ...data.config import DataConfig, DatasetInfo

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

    def wait(self) -> DatasetInfo:
        """Return the facts, once downloads and checks are through.

        Raises:
            LockstepError: whatever the preparation found wrong.
        """
        try:
            output, _ = self._child.communicate(self._question)
        except BaseException:
            self._child.kill()
            self._child.wait()
            raise
        return DatasetInfo.from_json(self._answer(output)["facts"])

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

"""A question to a process of its own, which is thrown away: what needs torch, matplotlib or a user's imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from ...data.common import RankLostError, error_from_json


def ask_child(module: str, question: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Ask ``python -m MODULE``, JSON on stdin, for JSON in the last line that it prints: a user's code may print, too.

    Args:
        module: of Lockstep.
        question: of plain values.
        name: of the process, for users.

    Raises:
        LockstepError: the child's own.
        RankLostError: it ended without an answer.
    """
    command = [sys.executable, "-P", "-m", module]
    child = subprocess.run(
        command, input=json.dumps(question), stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        answer: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise RankLostError(
            f"the {name}'s process ended with status {child.returncode}", "its output is above"
        ) from error
    if "error" in answer:
        raise error_from_json(answer["error"])
    return answer

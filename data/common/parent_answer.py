"""The answer of a short-lived child process that was asked by JSON on stdin."""

from __future__ import annotations

import json
import sys
from typing import Any


def answer_parent(document: dict[str, Any]) -> None:
    """Write plain values on a line of their own, which is the last one, whatever a user's code has printed."""
    sys.stdout.write(f"\n{json.dumps(document)}\n")

"""Names for runs without ``--name``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_LONGEST = 60  # a time and a number follow


def safe_stem(text: str) -> str:
    """Make the beginning of a run's name from any text: letters, digits, dots, dashes and underscores."""
    kept = (c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in text)
    return "".join(kept)[:_LONGEST].lstrip("._-") or "run"


def program_stem(argv: Sequence[str]) -> str:
    """Make the beginning of the name of a run of ``SCRIPT ARGS…`` or ``-m MODULE ARGS…``."""
    if argv[0] == "-m":
        return safe_stem(argv[1].rpartition(".")[2] if argv[1:] else "")
    return safe_stem(Path(argv[0]).stem)

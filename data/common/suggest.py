"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_LENGTH = 80  # a name longer than this is no typing mistake, and comparing it would take long


def closest_name(word: str, words: Iterable[str]) -> str | None:
    """Find the one of ``words`` that is closest to ``word``, or None when none is close.

    Case and the choice between ``-`` and ``_`` do not count as differences.
    """
    if len(word) > _MAX_LENGTH:
        return None
    plain = {_normalised(candidate): candidate for candidate in words}
    close = difflib.get_close_matches(_normalised(word), plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None


def _normalised(word: str) -> str:
    return word.lower().replace("-", "_")


def suggestion(word: str, words: Iterable[str]) -> str:
    """Phrase ``, did you mean 'x'?`` for the one of ``words`` that is closest to ``word``; empty when none is."""
    close = closest_name(word, words)
    return f", did you mean {close!r}?" if close else ""

"""One finding of ``launch doctor``: what was looked at, the verdict, what was seen, and the fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

PASS, WARN, FAIL = "pass", "warn", "fail"
VERDICTS = (PASS, WARN, FAIL)
"""From the best to the worst."""


@dataclass(frozen=True)
class Finding:
    """A result of one check."""

    name: str
    verdict: str
    said: str
    """What was seen, in one line."""
    fix: str = ""
    """What to do about it; empty where nothing is to be done."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What was measured, for programs."""

    def to_json(self) -> dict[str, Any]:
        """Describe it as ``launch doctor --json`` prints it."""
        fix = self.fix or None
        return {
            "name": self.name,
            "verdict": self.verdict,
            "said": self.said,
            "fix": fix,
            "values": dict(self.values),
        }


@dataclass(frozen=True)
class Check:
    """A check: its group and name, and what looks; it may find several things."""

    group: str
    name: str
    look: Callable[[], Iterable[Finding]]
    seconds: float
    """After this many seconds it counts as one that does not answer."""


def worst(findings: Iterable[Finding]) -> str:
    """Return the worst verdict; that of nothing is good."""
    return max((finding.verdict for finding in findings), key=VERDICTS.index, default=PASS)

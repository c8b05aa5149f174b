"""What ``launch check`` finds, as it travels from the ranks to the launcher. No torch here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Verdict = Literal["PASS", "NOTE", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    check: str
    verdict: Verdict
    what: str
    where: str = ""
    """The user's file and line, where it is known."""
    advice: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """A table of its own, such as the learning rates."""
    blocks: bool = False
    """Nothing can be trained before this is corrected."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return asdict(self)

    def named(self, check: str) -> Finding:
        """Return the same finding of another check."""
        return replace(self, check=check)


def finding_from_json(document: dict[str, Any]) -> Finding:
    """Build a finding from what ``to_json`` returned."""
    return Finding(**document)

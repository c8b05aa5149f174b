"""What ``launch check`` prints: one line for each finding as soon as it is known, or one JSON document."""

from __future__ import annotations

import textwrap
import time
from typing import Any

from ...data.common import LockstepError
from ...training.check import Finding
from ..console import print_json, print_messages, print_results

_WIDTH = 110
_NAME = 17  # columns of a check's name


class CheckReport:
    """The report of a check, which collects findings and prints them.

    Args:
        as_json: nothing is printed before the end.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._started = time.monotonic()
        self.findings: list[Finding] = []
        self._facts: dict[str, Any] = {}

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [finding.check for finding in self.findings if finding.verdict == "FAIL"]

    def add_facts(self, **facts: Any) -> None:
        """Add to what the JSON document says besides its findings."""
        self._facts |= facts

    def add(self, finding: Finding) -> None:
        """Add a finding and show it."""
        self.findings.append(finding)
        if not self._as_json:
            print_results(finding_lines(finding))

    def conclude(self, failure: LockstepError | None) -> int:
        """Print the result; the exit status.

        Args:
            failure: why the check could not be completed.
        """
        status = failure.exit_status if failure is not None else 1 if self.failed else 0
        seconds = round(time.monotonic() - self._started, 1)
        if self._as_json:
            print_json(self._document(status, seconds, failure))
        elif failure is None:
            notes = sum(finding.verdict == "NOTE" for finding in self.findings)
            result = f"{', '.join(self.failed)} failed" if self.failed else "nothing failed"
            noted = f", {notes} to note" if notes else ""
            print_messages([f"done: {result}; {len(self.findings)} checks{noted}, {seconds:.0f} s"])
        return status

    def _document(self, status: int, seconds: float, failure: LockstepError | None) -> dict[str, Any]:
        documents = [finding.to_json() for finding in self.findings]
        for document in documents:
            document.pop("blocks")
        return {
            "schema_version": 1,
            "status": "failed" if status else "passed",
            "exit_code": status,
            **self._facts,
            "checks": documents,
            **({} if failure is None else {"error": failure.to_json()}),
            "seconds": seconds,
        }


def finding_lines(finding: Finding) -> list[str]:
    """Lay out a finding: what, where, and what to do, each on lines of its own."""
    head = f"{finding.verdict}  {finding.check:<{_NAME}}"
    lines = _wrapped(finding.what, head)
    if finding.where:
        lines += _wrapped(f"at {finding.where}", "")
    if finding.advice:
        lines += _wrapped(f"do: {finding.advice}", "")
    return lines + _rates(finding.rows)


def _wrapped(text: str, head: str) -> list[str]:
    margin = " " * (_NAME + 8)
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{head:<{len(margin) - 2}}  " if head else margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _rates(rows: list[dict[str, Any]]) -> list[str]:
    """Lay out the learning rates as columns."""
    if not rows:
        return []
    margin = " " * (_NAME + 8)
    width = max(len("parameters"), *(len(row["parameters"]) for row in rows))
    steps = "".join(f"  {f'step {int(step) + 1:,}':>12}" for step in rows[0]["rates"])
    lines = [f"{margin}{'parameters':<{width}}  {'tensors':>7}  {'numbers':>12}{steps}"]
    for row in rows:
        rates = "".join(f"  {rate:>12.4g}" for rate in row["rates"].values())
        lines.append(
            f"{margin}{row['parameters']:<{width}}  {row['tensors']:>7,}  {row['numbers']:>12,}{rates}"
        )
    return lines

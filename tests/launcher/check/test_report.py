"""How ``launch check`` shows what it has found."""

from __future__ import annotations

import pytest

from lockstep.launcher.check.report import CheckReport, finding_lines
from lockstep.training.check.finding import Finding


def test_lines_are_aligned_and_none_is_too_long() -> None:
    rates = {"0": 0.01, "1234": 0.005}
    row = {"parameters": "bias$", "tensors": 2, "numbers": 1_234_567, "rates": rates}
    findings = [
        Finding("loss", "FAIL", "word " * 40, "exp.py:3", "advice " * 30),
        Finding("metric of_a_very_long_name", "PASS", "short"),
        Finding("learning rate", "PASS", "adam", rows=[row]),
    ]
    for finding in findings:
        first, *rest = finding_lines(finding)
        assert first.startswith(f"{finding.verdict}  {finding.check}  ") or " " * 4 in first
        assert all(line.startswith(" " * 25) for line in rest)
        assert all(len(line) <= 110 for line in [first, *rest])
    assert "step 1,235" in finding_lines(findings[2])[1]


def test_only_a_failure_changes_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    table = CheckReport(as_json=False)
    table.add(Finding("a", "NOTE", "what"))
    assert table.conclude(None) == 0
    assert "done: nothing failed; 1 checks, 1 to note" in capsys.readouterr().err
    table.add(Finding("b", "FAIL", "what"))
    assert (table.conclude(None), table.failed) == (1, ["b"])

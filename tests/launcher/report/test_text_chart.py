"""Curves in a terminal."""

from __future__ import annotations

from lockstep.launcher.report.text_chart import text_chart


def test_a_chart_fits_80_columns_and_marks_where_a_run_was_resumed() -> None:
    steps = [float(step) for step in range(1, 2001)]
    lines = list(text_chart("loss", [("one", steps, [1 / step for step in steps])], [1000]))
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("        1 │⡇")
    assert lines[11].index("▲") == 11 + 67 // 2
    two = list(
        text_chart("loss", [("x", steps, steps), ("y", [], []), ("z", steps, [-step for step in steps])])
    )
    assert two[0] == "loss  a x  c z"
    assert two[1].endswith("a")
    assert two[10].endswith("c")
    assert list(text_chart("loss", [("x", [], [])])) == ["loss: no number so far"]

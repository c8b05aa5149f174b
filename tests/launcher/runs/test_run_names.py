"""How a run is named that was given no name."""

from __future__ import annotations

import pytest

from lockstep.launcher.runs.run_names import program_stem, safe_stem


@pytest.mark.parametrize(
    ("argv", "stem"),
    [
        (["a b;$(x).py"], "a_b___x_"),
        (["-m", "pkg.mod"], "mod"),
        (["-m"], "run"),
        (["../é.py"], "run"),
        (["x" * 99], "x" * 60),
    ],
)
def test_a_run_is_called_after_its_program(argv, stem):
    assert program_stem(argv) == stem
    assert safe_stem("$(touch x)") == "touch_x_"

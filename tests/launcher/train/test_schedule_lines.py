from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lockstep.data.common.errors import LockstepError
from lockstep.launcher.train.schedule_lines import schedule_document, schedule_lines
from lockstep.training.config.duration import RunLength
from lockstep.training.config.run_config import RunConfig

LENGTH = RunLength(30, 150)


def _shown(base: Path, **schedule: Any) -> list[str]:
    config = RunConfig.model_validate({"schedule": schedule, "optimizer": {"lr": 0.5}})
    return schedule_lines(config, LENGTH, schedule_document(config, LENGTH, base))


def test_a_schedule_is_a_small_table() -> None:
    assert _shown(Path(), use="cosine", warmup="10 %", min_lr=0.1) == [
        "schedule: cosine after a warm-up of 15 steps",
        "      step     epoch  learning rate",
        "         1         1              0",
        "        16         1            0.5",
        "        38         2         0.4744",
        "        76         3         0.3347",
        "       113         4         0.1732",
        "       150         5         0.1001",
    ]


def test_a_rate_that_stays_is_one_line() -> None:
    assert _shown(Path()) == ["schedule: constant, learning rate 0.5"]
    line = "schedule: plateau; the rate is lowered where val/mae stops improving, learning rate 0.5"
    assert _shown(Path(), use="plateau", monitor="val/mae") == [line]


def test_a_function_of_ones_own_is_asked_in_a_process_of_its_own(tmp_path: Path) -> None:
    code = "import sys\nprint('loud')\ndef half(step, total, by=2):\n    return 1 - step / total / by\n"
    (tmp_path / "own.py").write_text(code)
    head, _, *rows = _shown(tmp_path, use="./own.py:half", args={"by": 1})
    assert head == "schedule: ./own.py:half"
    assert [row.split()[2] for row in rows] == ["0.5", "0.3767", "0.25", "0.1267", "0.003333"]
    with pytest.raises(LockstepError, match="has no 'halb'"):
        _shown(tmp_path, use="./own.py:halb")

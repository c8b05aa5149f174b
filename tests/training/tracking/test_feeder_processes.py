from __future__ import annotations

import time
from pathlib import Path

import pytest

from lockstep.training.tracking import feeder_processes
from lockstep.training.tracking.feeder_processes import WARNED


@pytest.mark.parametrize(
    ("said", "warning"),
    [
        ("sys.stderr.write('a line\\nown: it was slow\\n')", "own: it was slow"),
        ("pass", "own did not take the whole record"),  # a full disk has kept nothing of what it said
    ],
)
def test_a_warning_is_what_the_feeder_said_last_and_one_of_ours_where_nothing_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, warning: str
) -> None:
    (tmp_path / "warning.py").write_text(f"import sys\n{said}\nsys.exit({WARNED})\n")
    monkeypatch.setattr(feeder_processes, "MODULE", "warning")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    feeder = feeder_processes._Feeder("own", tmp_path, tmp_path, -1)
    found = feeder.wait(time.monotonic() + 60)
    feeder.tell(0)
    assert found is not None
    assert found.startswith(warning), found
    assert found.endswith(f"see {tmp_path / 'own.log'}")

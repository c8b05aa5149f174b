"""What a preparation says while it works, and its answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.data.config.data_config import DataConfig
from lockstep.launcher.train import data_preparation
from lockstep.launcher.train.data_preparation import DataPreparation

CHILD = """
import os, sys, time
asked = sys.stdin.read()
assert '"build_cache": true' in asked
for piece in (b'{"prog', b'ress": ["decoding", "1%"]}\\n{"progress": ["decoding", "50%"]}\\n', b'{"error": ',
              b'{"kind": "DamagedError", "message": "a.png", "hint": "b"}}'):
    os.write(1, piece)
    time.sleep(0.3)
"""


def test_progress_comes_before_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    popen = subprocess.Popen
    monkeypatch.setattr(data_preparation, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(subprocess, "Popen", lambda _, **rest: popen([sys.executable, "-c", CHILD], **rest))
    with pytest.raises(Exception, match=r"a\.png"):
        DataPreparation(DataConfig(), tmp_path, build_cache=True).wait(lambda *doing: seen.append(doing))
    assert seen[0] == ("reading data", "")
    assert seen[-1] == ("decoding", "50%")

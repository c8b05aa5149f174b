from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lockstep.data.sources import user_dataset


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKSTEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCKSTEP_DATA", str(tmp_path / "data"))


@pytest.fixture(autouse=True)
def forgotten_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_dataset, "_called", {})
    monkeypatch.setattr(sys, "path", list(sys.path))

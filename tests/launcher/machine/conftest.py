"""A GPU driver that answers what a test says, through the real ctypes calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.fake_nvml import SetAnswers, build_driver, use_driver


@pytest.fixture(scope="session")
def driver_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture(scope="session")
def old_driver_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_driver(tmp_path_factory.mktemp("old-driver"), "-DOLD")


@pytest.fixture
def driver(driver_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetAnswers:
    """``driver("G GPU-aa 3b 0 none none")``: what it says from now on; see ``fake_nvml.c``."""
    return use_driver(driver_library, tmp_path, monkeypatch)

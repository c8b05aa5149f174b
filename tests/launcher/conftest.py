"""A GPU driver that answers what a test says, through the real ctypes calls."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "fake_nvml.c"


def _build(folder: Path, *flags: str) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the driver library with")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, *flags, "-shared", "-fPIC", "-o", library, SOURCE], check=True, timeout=60)
    return library


@pytest.fixture(scope="session")
def driver_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(tmp_path_factory.mktemp("driver"))


@pytest.fixture(scope="session")
def old_driver_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(tmp_path_factory.mktemp("old-driver"), "-DOLD")


Say = Callable[[str], None]


@pytest.fixture
def driver(driver_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """``driver("G GPU-aa 3b 0 none none")``: what it says from now on; see ``fake_nvml.c``."""
    return speak(driver_library, tmp_path, monkeypatch)


def speak(library: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    from lockstep.launcher import nvml

    answers, locks = folder / "answers", folder / "locks"
    answers.write_text("")
    locks.mkdir()
    monkeypatch.setenv("FAKE_NVML", str(answers))
    monkeypatch.setenv("LOCKSTEP_LOCKS", str(locks))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))  # for processes that are started
    monkeypatch.setattr(
        nvml, "LIBRARY", str(library)
    )  # for this one, whose linker read its environment at start
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    return lambda text: (answers.write_text(text), None)[1]

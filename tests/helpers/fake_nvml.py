"""A GPU driver that answers what a test says, through the real ctypes calls; see ``fake_nvml.c``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.paths import HELPERS

SOURCE = HELPERS / "fake_nvml.c"


def build_driver(folder: Path, *flags: str) -> Path:
    """Compile the driver library into a folder."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the driver library with")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, *flags, "-shared", "-fPIC", "-o", library, SOURCE], check=True, timeout=60)
    return library


SetAnswers = Callable[[str], None]


def use_driver(library: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> SetAnswers:
    """Use this library here and in processes that are started; what it answers is set by the function returned."""
    from lockstep.launcher.machine import nvml

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

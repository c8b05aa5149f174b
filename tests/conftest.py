"""Every test has run, cache and data folders of its own, no W&B account, and a ``launch`` that is the real one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

LAUNCH = [sys.executable, "-P", "-c", "from lockstep.launcher.cli import main; main()"]
WATCHDOG = 240  # seconds; a hung process group must not hang the suite
# A shell's background job is started with SIGINT ignored, and so would be what the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn digits are drawn once for the whole suite."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKSTEP_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LOCKSTEP_CACHE", str(shared_cache))
    monkeypatch.setenv("LOCKSTEP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOCKSTEP_SLURM_SANDBOX", str(tmp_path / "sandbox"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "WANDB_API_KEY", "OMP_NUM_THREADS", "SLURM_CONF"):
        monkeypatch.delenv(name, raising=False)


Launch = Callable[..., Result]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """``launch("train", "--cpu", "2")`` in a folder that is not the repository."""
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)

    def run(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path = work) -> Result:
        done = subprocess.run(
            [*LAUNCH, *arguments],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=WATCHDOG,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


OWN = """
import torch
from torch import nn

def data(n=1009, m=211, width=7):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n + m, width, generator=g, dtype=torch.float64)
    y = (x.sum(1) + 0.3 * torch.randn(n + m, generator=g) > 0).long()
    return {"train": (x[:n], y[:n]), "val": (x[n:], y[n:])}

def model(width=7):
    return nn.Sequential(nn.Linear(width, 11), nn.Tanh(), nn.Linear(11, 2))
"""

OWN_CONFIG = """
data: {use: "./own.py:data", batch_size: 31}
model: {use: "./own.py:model"}
optimizer: {use: sgd, lr: 0.2, momentum: 0.9}
train: {epochs: 2, precision: fp64}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's folder: own data and model of prime sizes, and the config ``own.yaml`` that names them."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own.py").write_text(OWN)
    (folder / "own.yaml").write_text(OWN_CONFIG)
    return folder

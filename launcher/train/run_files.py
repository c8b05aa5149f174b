"""What is written into a run folder before the ranks start."""

from __future__ import annotations

import platform
import secrets
import subprocess
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from ...data.common import write_json, write_text
from ...training.config import RunSpec, WeightsFile
from .plan import LaunchPlan

_VERSIONS = ("torch", "torchvision", "accelerate", "wandb", "numpy", "pandas", "pillow", "safetensors")


def build_run_spec(
    plan: LaunchPlan, base: Path, before: RunSpec | None, weights: tuple[WeightsFile, ...] = ()
) -> RunSpec:
    """Build what the ranks read; a resumed run keeps its W&B id and the weights that it started from."""
    if before is not None:
        return replace(before, config=plan.config, base=base, facts=plan.facts, device=plan.world.device)
    return RunSpec(plan.run, plan.config, base, plan.facts, plan.world.device, secrets.token_hex(4), weights)


def write_run_files(folder: Path, plan: LaunchPlan, spec: RunSpec, config_yaml: str) -> None:
    """Write ``config.yaml``, ``manifest.json`` and, last, ``spec.json``: with it the folder is a run."""
    write_text(folder / "config.yaml", config_yaml)
    write_json(folder / "manifest.json", _manifest(plan))
    write_json(folder / "spec.json", spec.to_json())


def _manifest(plan: LaunchPlan) -> dict[str, Any]:
    """Describe what is needed to repeat the run; no environment variable and no secret is in it."""
    return {
        "schema_version": 1,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _VERSIONS},
        "lockstep": sys.modules["lockstep"].__dict__["__version__"],
        "git": _git(),
        "hardware": {"machine": platform.machine(), "cores": plan.world.cores, "gpus": list(plan.world.gpus)},
        "data": {"name": plan.facts.name, "fingerprint": plan.facts.fingerprint},
        "plan": plan.to_json(),
    }


def _git() -> dict[str, Any] | None:
    """Return the commit of the current folder, and whether files differ from it."""
    try:
        commit = _git_output("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git_output("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git_output(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()

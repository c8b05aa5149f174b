"""The run folder: where it lies, what it is called, what is written into it before the ranks start."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.errors import DamagedError, UsageError
from ..data.suggest import did_you_mean
from .plan import LaunchPlan

if TYPE_CHECKING:  # it brings pydantic, which `launch run` has no use for
    from ..training.runspec import RunSpec

LOCK = ".lock"
"""Held by the launcher that trains the run."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSIONS = ("torch", "torchvision", "accelerate", "wandb", "numpy", "pandas", "pillow", "safetensors")


def runs_root() -> Path:
    """``$LOCKSTEP_RUNS``, else ``./runs``."""
    return Path(os.environ.get("LOCKSTEP_RUNS") or "runs").resolve()


def create_run(name: str | None, stem: str) -> Path:
    """A new run folder, for this user alone.

    Raises:
        UsageError: the name is not one, or is taken.
    """
    root = runs_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        if name is not None:
            return _named(root, name)
        return _numbered(root, f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}")
    except OSError as error:
        raise UsageError(
            f"{root}: a run folder cannot be made here: {error.strerror}",
            "set LOCKSTEP_RUNS to a folder that can be written",
        ) from error


def _named(root: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name {name}: not a name for a run",
            "use letters, digits, dots, dashes and underscores, at most 100",
        )
    folder = root / name
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as error:
        if _is_abandoned(folder):
            shutil.rmtree(folder)
            return _named(root, name)
        raise UsageError(
            f"{folder}: this name is taken by {_standing(folder)}", "use another --name"
        ) from error
    return folder


def _is_abandoned(folder: Path) -> bool:
    """Whether its launcher was killed before anything was started: no spec, and nobody holds the lock."""
    if any((folder / name).exists() for name in ("spec.json", "run.json")) or not (folder / LOCK).exists():
        return False
    with (folder / LOCK).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _standing(folder: Path) -> str:
    outcome = read_outcome(folder)
    return "an unfinished run" if outcome is None else f"a run that is {outcome.get('status', 'over')}"


def _numbered(root: Path, stem: str) -> Path:
    for number in range(1, 1000):
        folder = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise UsageError(f"{root / stem}: a thousand runs of this second", "give the run a --name")


def find_run(name: str) -> Path:
    """The folder of an existing run, by its name or path.

    Raises:
        UsageError: there is none.
    """
    for folder in (runs_root() / name, Path(name).resolve()):
        if (folder / "spec.json").is_file():
            return folder
    known = sorted(path.parent.name for path in runs_root().glob("*/spec.json"))
    guess = did_you_mean(name, known)
    raise UsageError(
        f"{name}: there is no such run in {runs_root()}" + (f"; did you mean {guess}?" if guess else ""),
        "give a run's name or the path of its folder" + (f"; the latest is {known[-1]}" if known else ""),
    )


def read_outcome(folder: Path) -> dict[str, Any] | None:
    """``outcome.json`` of a run; None while there is none."""
    try:
        document: dict[str, Any] = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedError(
            f"{folder / 'outcome.json'}: not JSON: {error}", "look at metrics.jsonl instead"
        ) from error
    return document


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def run_spec(plan: LaunchPlan, base: Path, before: RunSpec | None) -> RunSpec:
    """What the ranks are told; a run that goes on keeps its W&B id."""
    from ..training.runspec import RunSpec

    wandb_id = before.wandb_id if before else secrets.token_hex(4)
    return RunSpec(plan.run, plan.config, base, plan.facts, plan.world.device, wandb_id)


def fill_run(folder: Path, plan: LaunchPlan, spec: RunSpec, config_yaml: str) -> None:
    """Write ``config.yaml``, ``manifest.json`` and, last, ``spec.json``: with it the folder is a run."""
    (folder / "config.yaml").write_text(config_yaml, encoding="utf-8")
    write_json(folder / "manifest.json", _manifest(plan))
    write_json(folder / "spec.json", spec.to_json())


def _manifest(plan: LaunchPlan) -> dict[str, Any]:
    """What one needs to know to do it again; no environment variable, no secret."""
    from importlib import metadata  # as slow as all the rest of this module

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
    """Commit of the folder that the command was given in, and whether files differ from it."""
    try:
        commit = _git_output("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git_output("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git_output(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()

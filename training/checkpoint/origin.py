"""Whether a checkpoint lies where it belongs: in the folder of its step, in the run that wrote it. No torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...data.common import DamagedError
from .layout import checkpoint_path, checkpoints_folder, has_checkpoint_name, step_of

STATE_KEYS = ("step", "world_size", "config_sha256", "data_fingerprint", "run", "run_id")
"""What the manifest repeats of the state; 0.1 did not repeat the last two, and its state has no ``run_id``."""
_SPEC_KEYS = {"run": "run", "run_id": "wandb_id"}
"""Key of a state to the key of ``spec.json`` that it came from."""


def refuse_other_step(path: Path, manifest: dict[str, Any]) -> None:
    """Refuse a folder that has the name of another step's checkpoint; any other name is the user's own.

    Raises:
        DamagedError: it has.
    """
    step = manifest.get("step")
    if has_checkpoint_name(path) and step_of(path) != step:
        right = checkpoint_path(path.parent, step) if isinstance(step, int) else path
        raise DamagedError(
            f"{path} is the checkpoint of step {step}: its folder's name says step {step_of(path)}",
            f"name it {right.name}, or remove it where that one is there",
        )


def refuse_other_state(path: Path, manifest: dict[str, Any], state: dict[str, Any]) -> None:
    """Refuse a state of another checkpoint than the manifest's, and a checkpoint of another run.

    Raises:
        DamagedError: manifest, state and run do not agree.
    """
    for key in STATE_KEYS:
        if key in manifest and manifest[key] != state.get(key):
            raise DamagedError(
                f"{path}: its files are of several checkpoints:"
                f" {key} is {state.get(key)} in the state, {manifest[key]} in the manifest",
                "bring it back from a copy, or use another checkpoint",
            )
    spec = _spec_of(path)
    for key, name in _SPEC_KEYS.items():
        if key in state and name in spec and state[key] != spec[name]:
            also = " as well" if state.get("run") == spec.get("run") else ""
            raise DamagedError(
                f"{path} was not written by this run, but by another one, named {state.get('run')}{also}",
                "remove it; to start a new run from its weights, name it as model.weights",
            )


def _spec_of(path: Path) -> dict[str, Any]:
    """Read the spec of the run in whose folder a checkpoint lies; empty where it lies in none."""
    if path.parent != checkpoints_folder(path.parent.parent):
        return {}
    try:
        spec = json.loads((path.parent.parent / "spec.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return spec if isinstance(spec, dict) else {}

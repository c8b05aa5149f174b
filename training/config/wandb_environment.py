"""What W&B's own variables ask for. No torch here: configs are checked with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

WandbMode = Literal["online", "offline", "disabled"]

_MODES: dict[str, WandbMode] = {
    "online": "online",
    "offline": "offline",
    "disabled": "disabled",
    "dryrun": "offline",  # older names that the library still takes
    "run": "online",
}
_TRUE = ("1", "true", "yes", "on", "y", "t")
_VARIABLES = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "name": "WANDB_NAME",
    "group": "WANDB_RUN_GROUP",
    "tags": "WANDB_TAGS",
    "job_type": "WANDB_JOB_TYPE",
    "notes": "WANDB_NOTES",
}
"""Key of the ``wandb:`` section to the variable that sets it."""


def requested_mode(environ: Mapping[str, str]) -> tuple[WandbMode, str] | None:
    """Return the mode that the environment asks for, and by which variable; None where it asks for none."""
    if environ.get("WANDB_DISABLED", "").strip().lower() in _TRUE:
        return "disabled", "WANDB_DISABLED"
    mode = _MODES.get(environ.get("WANDB_MODE", "").strip().lower())
    return None if mode is None else (mode, "WANDB_MODE")


def requested_settings(environ: Mapping[str, str]) -> dict[str, tuple[str | list[str], str]]:
    """Return the settings that the environment makes: key to value and variable."""
    found: dict[str, tuple[str | list[str], str]] = {}
    for key, variable in _VARIABLES.items():
        if text := environ.get(variable, "").strip():
            tags = [tag.strip() for tag in text.split(",") if tag.strip()]
            found[key] = (tags if key == "tags" else text), variable
    return found

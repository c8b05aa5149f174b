"""What of a file is left out because of what the command line says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...training.config import unsupported_keys, unsupported_schedule_keys
from .partial_config import Override, PartialConfig, forget, place_of
from .yaml_text import dotted, printable


def _only_arguments(use: str) -> tuple[str, ...]:
    del use
    return ("args",)


def _arguments_and_sets(use: str) -> tuple[str, ...]:
    del use
    return ("args", "sets")


_ORPHANS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "data": _arguments_and_sets,
    "model": _only_arguments,
    "loss": _only_arguments,
    "optimizer": unsupported_keys,
    "schedule": unsupported_schedule_keys,
}
"""Which keys of a section go with its ``use``, by what that is now."""


def drop_orphans(draft: PartialConfig, overrides: Sequence[Override], defaults: Mapping[str, Any]) -> None:
    """Drop the file's arguments of a component that the command line replaces by another.

    Args:
        draft: to be changed.
        overrides: of the command line.
        defaults: the whole config where nothing is set.
    """
    chosen = {override.path[0]: override.value for override in overrides if override.path[1:] == ("use",)}
    for section, use in chosen.items():
        given = draft.values.get(section)
        if section not in _ORPHANS or not isinstance(given, dict) or not isinstance(use, str):
            continue
        if use != given.get("use", defaults[section]["use"]):
            for key in _ORPHANS[section](use):
                _drop(draft, (section, key), f"{section}.use is now {printable(use)}")


def drop_other_data(draft: PartialConfig, overrides: Sequence[Override]) -> None:
    """Drop the file's data set where the command line says that there are several."""
    chosen = {override.path for override in overrides if override.value is not None}
    if (
        ("data", "sets") in chosen
        and ("data", "use") not in chosen
        and isinstance(draft.values.get("data"), dict)
    ):
        for key in ("use", "args"):
            _drop(draft, ("data", key), "data.sets is set")


def drop_other_length(draft: PartialConfig, overrides: Sequence[Override]) -> None:
    """Drop the file's length of the run where the command line gives it in the other unit."""
    chosen = {override.path for override in overrides if override.value is not None}
    given = draft.values.get("train")
    for asked, other in (("steps", "epochs"), ("epochs", "steps")):
        if ("train", asked) in chosen and ("train", other) not in chosen and isinstance(given, dict):
            _drop(draft, ("train", other), f"train.{asked} is set")


def _drop(draft: PartialConfig, path: tuple[str, str], reason: str) -> None:
    section, key = path
    if draft.values[section].pop(key, None):
        where = place_of(draft, path).short
        draft.notes.append(f"{dotted(path)} of {where} is left out, because {reason}")
    forget(draft, path)

"""The trackers that ``tracking:`` can name. A new one is a line here and a file in ``training/tracking/``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticKnownError

from ...data.config import ConfigSection


@dataclass(frozen=True)
class BuiltInTracker:
    """A tracker that comes with Lockstep."""

    title: str
    """Its name in messages."""
    factory: str
    """``module:class``, imported by name: a tracker that a run does not use is never imported."""
    extra: str | None = None
    """The package that it needs, which is also the name of the extra that installs it; None needs none."""


TRACKERS = {
    "wandb": BuiltInTracker("W&B", "lockstep.training.tracking.wandb_tracker:WandbTracker"),
    "tensorboard": BuiltInTracker(
        "TensorBoard",
        "lockstep.training.tracking.tensorboard_tracker:TensorboardTracker",
        extra="tensorboard",
    ),
}


def tracker_title(name: str) -> str:
    """Return what messages call a tracker."""
    return TRACKERS[name].title if name in TRACKERS else name


def tracker_file_name(name: str) -> str:
    """Return a file name for a tracker's log and lock: ``wandb``, or ``own.py-make`` for ``./own.py:make``."""
    return re.sub(r"[^\w.]+", "-", name).strip(".-")


def missing_package(name: str) -> str | None:
    """Say which package a tracker lacks, and how to install it; None where it lacks none."""
    extra = TRACKERS[name].extra if name in TRACKERS else None
    if extra is None or find_spec(extra) is not None:
        return None
    return f"the package {extra} is not installed; `pip install 'lockstep-train[{extra}]'`"


def _check_name(name: str) -> str:
    source, _, attribute = name.rpartition(":")
    if name not in TRACKERS and not (source and attribute.isidentifier()):
        choices = (*TRACKERS, "package.module:callable", "./file.py:callable")
        raise PydanticKnownError(
            "literal_error", {"expected": ", ".join(f"'{choice}'" for choice in choices)}
        )
    return name


def _check_each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    files = [tracker_file_name(name) for name in names]
    twice = next((name for name, file in zip(names, files, strict=True) if files.count(file) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is there twice")
    return names


TrackerName = Annotated[str, AfterValidator(_check_name)]
TrackerNames = Annotated[tuple[TrackerName, ...], AfterValidator(_check_each_once)]
"""The value of ``tracking:``."""


class WandbConfig(ConfigSection):
    """The ``wandb:`` section."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """``auto`` is online for users who are logged in, else offline; it never prompts."""
    project: str = Field(default="lockstep", min_length=1)
    """The W&B project that the run appears in."""
    entity: str | None = None
    """The W&B user or team that owns the project; unset: the account's default."""
    name: str | None = None
    """The name that W&B shows; unset: the run's."""
    group: str | None = None
    """The W&B group, under which its interface shows several runs together."""
    tags: tuple[str, ...] = ()
    """W&B tags, to filter runs by."""
    job_type: str | None = None
    """The W&B job type, such as ``train``, to filter runs by."""
    notes: str | None = None
    """A description of the run that W&B shows beside it."""

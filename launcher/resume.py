"""Where a run is trained: in a new folder, or on in one that is there. What may change in between, and what not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.errors import DamagedError, UsageError
from ..data.facts import DataFacts
from ..training.events import rewind
from ..training.manifest import list_checkpoints, newest_whole, read_state, step_of
from ..training.runspec import RunSpec, read_spec
from ..training.spec import RunConfig
from .config import ResolvedConfig, resolve
from .console import say
from .plan import LaunchPlan
from .runs import create_run, find_run, read_outcome, runs_root

_FREE = ("log.", "checkpoint.", "wandb.", "slurm.", "data.workers", "data.root", "data.max_micro_batch")
_EXTENDABLE = ("train.epochs", "train.max_steps")


@dataclass(frozen=True)
class Place:
    """A run's folder, and what it was before."""

    folder: Path
    before: RunSpec | None
    """None for a new run."""


@dataclass(frozen=True)
class Point:
    """The checkpoint that a run goes on from."""

    step: int
    epoch: int
    epoch_step: int


def find_place(resolved: ResolvedConfig, name: str | None, resume: str) -> Place:
    """A new folder, or that of the run that goes on.

    Args:
        resolved: what is to be trained.
        name: the run's name, if one was given.
        resume: ``auto`` continues a run of that name, ``never`` does not, anything else names a run.
    """
    if resume not in ("auto", "never"):
        folder = find_run(resume)
    elif resume == "auto" and name is not None and (runs_root() / name / "spec.json").is_file():
        folder = runs_root() / name
    else:
        return Place(create_run(name, resolved.name), None)
    before = read_spec(folder / "spec.json")
    _refuse_identity(folder.name, before.config, resolved.config)
    return Place(folder, before)


def config_of(run: str, overrides: list[str]) -> ResolvedConfig:
    """A run's own config with ``overrides``."""
    folder = find_run(run)
    resolved = resolve(str(folder / "config.yaml"), overrides)
    return replace(resolved, name=folder.name, base=read_spec(folder / "spec.json").base)


def _refuse_identity(run: str, before: RunConfig, now: RunConfig) -> None:
    """Settings that say which run it is stay; ``train.epochs`` may grow; the rest is free."""
    old, new = _flat(before.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    identity = [key for key in changed if not key.startswith(_FREE) and key not in _EXTENDABLE]
    if identity:
        rows = [f"{key}: {old.get(key)} in the run, {new.get(key)} now" for key in identity]
        raise UsageError(
            f"{run} was started with other settings:\n" + "\n".join(rows),
            f"continue it as it is with `launch resume {run}`, or start a new run under another --name",
        )
    for key in changed:
        if key in _EXTENDABLE:
            say([f"note: {key} was {old.get(key)} and is {new.get(key)}; a cosine schedule follows it"])


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def find_point(folder: Path) -> Point | None:
    """The newest whole checkpoint; damaged ones are named and passed over. None where none was written yet."""
    checkpoints = folder / "checkpoints"
    if not list_checkpoints(checkpoints):
        return None
    path, damaged = newest_whole(checkpoints)
    say(f"warning: passed over: {error.message}" for error in damaged)
    state = read_state(path)
    return Point(state["step"], state["epoch"], state["epoch_step"])


def refuse_finished(place: Place, plan: LaunchPlan) -> None:
    """Stop before anything is touched.

    Raises:
        UsageError: there is nothing left to train.
    """
    steps = [step_of(path) for path in list_checkpoints(place.folder / "checkpoints")[:1]]
    if steps and steps[0] >= plan.steps:
        outcome = read_outcome(place.folder) or {}
        raise UsageError(
            f"{place.folder.name} is {outcome.get('status', 'trained')}: {steps[0]:,} of {plan.steps:,} steps",
            f"train it longer with `launch resume {place.folder.name} train.epochs=N`, or use another --name",
        )


def go_on(place: Place, facts: DataFacts, point: Point | None) -> None:
    """Make a folder ready for its next attempt: the record ends where the checkpoint was taken.

    Raises:
        DamagedError: the data set is not the one that the run was started with.
    """
    if place.before is None:
        return
    refuse_other_data(place.before.facts, facts)
    rewind(place.folder / "metrics.jsonl", point.step if point else -1, point.epoch if point else 0)
    (place.folder / "outcome.json").unlink(missing_ok=True)
    _set_aside_offline(place.folder)
    where = (
        f"step {point.step:,}, in epoch {point.epoch + 1}"
        if point
        else "the start: no checkpoint was written yet"
    )
    say([f"{place.folder.name} goes on from {where}"])


def refuse_other_data(before: DataFacts, now: DataFacts) -> None:
    """Go on only with the data that the run was started with.

    Raises:
        DamagedError: it has changed.
    """
    if before.fingerprint != now.fingerprint:
        raise DamagedError(
            f"the data set {now.name} has changed since the run was started:"
            f" {before.train.length:,} training samples then, {now.train.length:,} now, other contents",
            "bring the old data back, or start a new run",
        )


def _set_aside_offline(folder: Path) -> None:
    """The whole record goes into a new offline folder: one that is superseded must not be synced as well."""
    for old in sorted((folder / "wandb").glob("offline-run-*")):
        aside = folder / "wandb-superseded"
        aside.mkdir(exist_ok=True)
        old.rename(aside / old.name)

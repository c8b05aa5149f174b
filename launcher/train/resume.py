"""Where a run is trained: in a new folder, or in the one that it resumes in; and what may have changed since."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ...data.common import DamagedError, UsageError, write_json
from ...data.config import DatasetInfo
from ...training.checkpoint import (
    checkpoints_folder,
    is_in_place,
    list_checkpoints,
    newest_intact,
    read_state,
    step_of,
)
from ...training.components import EarlyStopping
from ...training.config import (
    EXTENDABLE_KEYS,
    RunConfig,
    RunSpec,
    describe_differences,
    flatten_config,
    identity_settings,
    read_spec,
)
from ...training.tracking import read_events, rewind, rows_logged
from ..config import ResolvedConfig
from ..console import print_messages
from ..process import is_held
from ..runs import LOCK, create_run, find_run, read_outcome, runs_root
from .plan import LaunchPlan

_LENGTH_KEYS = ("train.epochs", "train.steps", "train.max_steps")


@dataclass(frozen=True)
class RunTarget:
    """A run's folder, and what it was before."""

    folder: Path
    previous_spec: RunSpec | None
    """None for a new run."""


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint from which a run resumes."""

    step: int
    epoch: int
    epoch_step: int
    rows: int
    """Epochs that have their row in the record."""
    pending: bool = False
    """Whether the evaluation there is still to come."""


def find_run_target(resolved: ResolvedConfig, name: str | None, resume: str) -> RunTarget:
    """Make a new folder, or find that of the run to resume.

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
        return RunTarget(create_run(name, resolved.name), None)
    before = read_spec(folder / "spec.json")
    config = resolved.with_found(before.facts)[0].config
    if (
        name is not None
        and _is_unused(folder)
        and describe_differences(identity_settings(before.config), identity_settings(config))
    ):
        _clear_unused_run(folder)
        return RunTarget(create_run(name, resolved.name), None)
    _refuse_identity(folder.name, before.config, config)
    return RunTarget(folder, before)


def submitted_run_target(folder: Path, resolved: ResolvedConfig) -> RunTarget:
    """Return the folder that was made when the run was submitted; after its first attempt the run is resumed."""
    if not (folder / "spec.json").is_file():
        return RunTarget(folder, None)
    before = read_spec(folder / "spec.json")
    _refuse_identity(folder.name, before.config, resolved.with_found(before.facts)[0].config)
    return RunTarget(folder, before)


def refuse_other_batches(place: RunTarget, resolved: ResolvedConfig) -> None:
    """Refuse a batch size that the user's function returns now, and did not when the run was started."""
    before = place.previous_spec
    if before is not None and before.config.data.batch_size != resolved.config.data.batch_size:
        _refuse_identity(place.folder.name, before.config, resolved.config)


def _is_unused(folder: Path) -> bool:
    """Tell whether nothing would be lost with the folder: no process trains it; it has no checkpoint and no step."""
    if is_held(folder / LOCK) or list_checkpoints(checkpoints_folder(folder)):
        return False
    return not any(event["event"] in ("step", "epoch") for event in read_events(folder / "metrics.jsonl"))


def _clear_unused_run(folder: Path) -> None:
    """Free the name of an unused run; where its ranks came as far as a record, steps may have been done: it is kept."""
    note = (
        f"note: {folder.name} has neither a checkpoint nor a logged step: with other settings it begins anew"
    )
    if not (folder / "metrics.jsonl").exists():
        print_messages([f"{note}; the logs of what failed are removed"])
        shutil.rmtree(folder)
        return
    number = 1
    while (kept := folder.with_name(f"{folder.name}.before-{number}")).exists():
        number += 1
    folder.rename(kept)
    print_messages([f"{note}; what was done before is kept as {kept.name}"])


def _refuse_identity(run: str, before: RunConfig, now: RunConfig) -> None:
    """Refuse other values of settings that identify the run, but for those that may be extended; the rest is free."""
    if rows := describe_differences(identity_settings(before), identity_settings(now)):
        raise UsageError(
            f"{run} was started with other settings:\n" + "\n".join(rows), _new_run_hint(run, before, now)
        )
    old, new = flatten_config(before), flatten_config(now)
    for key in sorted(old.keys() | new.keys()):
        if key.startswith(EXTENDABLE_KEYS) and old.get(key) != new.get(key):
            moved = now.schedule.follows_length and key in _LENGTH_KEYS
            follows = f"; the {now.schedule.use} schedule follows it" if moved else ""
            print_messages([f"note: {key} was {old.get(key)} and is {new.get(key)}{follows}"])


def _new_run_hint(run: str, before: RunConfig, now: RunConfig) -> str:
    """Say how to train on with other settings: as a new run, from this one's weights where the model is the same."""
    same = f"continue it as it is with `launch resume {run}`"
    old, new = identity_settings(before), identity_settings(now)
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    if any(key.startswith("model.") for key in changed):
        return f"{same}, or start a new run under another --name"
    asked = [f"{key}={json.dumps(value)}" for key, value in changed.items()]
    command = shlex.join(["launch", "train", "CONFIG", *asked, f"model.weights={run}", "--name", "NEW"])
    return f"{same}, or begin a new run with its weights and these settings: `{command}`"


def find_resume_point(folder: Path, steps: int) -> ResumePoint | None:
    """Return the newest whole checkpoint, None where none was written yet; damaged ones are reported and skipped.

    Args:
        folder: of the run.
        steps: that it is to have in the end.
    """
    checkpoints = checkpoints_folder(folder)
    if not list_checkpoints(checkpoints):
        return None
    path, damaged = newest_intact(checkpoints)
    print_messages(f"warning: passed over: {error.message}" for error in damaged)
    state = read_state(path)
    rows = rows_logged(state, steps)
    return ResumePoint(state["step"], state["epoch"], state["epoch_step"], rows, state["pending"])


def resolve_checkpoint_step(folder: Path, checkpoint: str) -> int:
    """Return the step that ``--checkpoint`` names.

    Raises:
        UsageError: it is neither a step nor ``best``, or the run has ranked no checkpoint.
    """
    if checkpoint.isascii() and checkpoint.isdigit():
        return int(checkpoint)
    if checkpoint != "best":
        raise UsageError(f"--checkpoint {checkpoint}: neither a step nor `best`", "use one of these")
    ranked = read_state(newest_intact(checkpoints_folder(folder))[0])["ranking"]["entries"]
    if not ranked:
        raise UsageError(
            f"{folder.name} has ranked no checkpoint: checkpoint.keep_best was 0, or no evaluation gave a number",
            "name a step, or leave --checkpoint out for the newest",
        )
    return int(ranked[0]["step"])


def refuse_finished(place: RunTarget, plan: LaunchPlan) -> None:
    """Stop before anything is touched.

    Raises:
        UsageError: there is nothing left to train.
    """
    outcome = read_outcome(place.folder) or {}
    name, status = place.folder.name, outcome.get("status", "")
    found = list(islice(filter(is_in_place, list_checkpoints(checkpoints_folder(place.folder))), 1))
    if found and step_of(found[0]) >= plan.steps:
        _refuse_trained(place.folder, status if "steps" in outcome else "", plan.steps)
    if outcome.get("stopped_early") and _has_lost_patience(found, plan.config):
        raise UsageError(
            f"{name} is {status}: it ended early, after {step_of(found[0]):,} of {plan.steps:,} steps",
            f"resume it with more patience: `launch resume {name} train.early_stop.patience=N`, or use another --name",
        )


def _refuse_trained(folder: Path, status: str, steps: int) -> None:
    """Refuse a run whose whole checkpoint has all steps; steps that only a damaged one has are trained again."""
    try:
        newest = newest_intact(checkpoints_folder(folder))[0]
    except DamagedError:
        return  # the command says where the run is to resume
    name, done = folder.name, step_of(newest)
    if done > steps:
        raise UsageError(
            f"{name} has done {done:,} steps already, and is to end after {steps:,}: nothing is left to train",
            f"evaluate what is there with `launch eval {name}`, ask for more than {done:,} steps with"
            f" train.max_steps or train.epochs, or train {steps:,} steps as a new run under another --name",
        )
    is_over = status == "done" or (status == "stopped" and not _is_pending(newest))
    if is_over and done == steps:  # one that failed after that still owes its outcome
        raise UsageError(
            f"{name} is {status}: {done:,} of {steps:,} steps",
            f"train it longer with `launch resume {name} train.epochs=N`, or use another --name",
        )


def _is_pending(path: Path) -> bool:
    """Tell whether the evaluation after the last step is still to be done."""
    try:
        return bool(read_state(path)["pending"])
    except (DamagedError, KeyError):
        return False


def _has_lost_patience(newest: list[Path], config: RunConfig) -> bool:
    try:
        return any(
            EarlyStopping(**read_state(path)["patience"]).is_over(config.train.early_stop) for path in newest
        )
    except (DamagedError, KeyError, TypeError):
        return False


def prepare_resume(place: RunTarget, facts: DatasetInfo, resume_point: ResumePoint | None) -> None:
    """Prepare a folder for its next attempt: the record ends where the checkpoint was taken.

    Raises:
        DamagedError: the data set is not the one that the run was started with.
    """
    if place.previous_spec is None:
        return
    refuse_other_data(place.previous_spec.facts, facts)
    rewind_run(place.folder, resume_point)
    where = (
        f"step {resume_point.step:,}, in epoch {resume_point.epoch + 1}"
        if resume_point
        else "the start: no checkpoint was written yet"
    )
    print_messages([f"{place.folder.name} resumes from {where}"])


def rewind_run(folder: Path, resume_point: ResumePoint | None) -> None:
    """Remove what the previous attempt did after its last checkpoint."""
    at = resume_point or ResumePoint(-1, 0, 0, 0)
    if lost := rewind(folder / "metrics.jsonl", at.step, at.rows, pending=at.pending, anew=True):
        print_messages(
            [f"warning: {lost} lines of {folder / 'metrics.jsonl'} cannot be read and are dropped"]
        )
    (folder / "outcome.json").unlink(missing_ok=True)


def scaled_as_before(before: DatasetInfo, now: DatasetInfo) -> DatasetInfo:
    """Read uint8 inputs as the run was started with: version 0.1 divided a user's own by 255, too."""
    return replace(now, scale_uint8=before.scale_uint8)


def refuse_other_data(before: DatasetInfo, now: DatasetInfo) -> None:
    """Refuse to resume with other data than the run was started with.

    Raises:
        DamagedError: it has changed.
    """
    if before.fingerprint != now.fingerprint:
        raise DamagedError(
            f"the data set {now.name} has changed since the run was started:"
            f" {before.train.length:,} training samples then, {now.train.length:,} now, other contents",
            "bring the old data back, or start a new run",
        )


def renew_spec(folder: Path, spec: RunSpec, facts: DatasetInfo) -> None:
    """Update the paths of the data's files, which may have moved, as out of a cleared cache, but not have changed."""
    refuse_other_data(spec.facts, facts)
    facts = _shared_as_before(spec.facts, scaled_as_before(spec.facts, facts))
    if facts != spec.facts:
        write_json(folder / "spec.json", replace(spec, facts=facts).to_json())


def _shared_as_before(before: DatasetInfo, now: DatasetInfo) -> DatasetInfo:
    """Return what a command has found that puts nothing into the cache, with what the training has put there."""
    parts = {name: _shared_as_before(before.parts[name], part) for name, part in now.parts.items()}
    return replace(now, shared=before.shared, reading=before.reading, parts=parts)


def refuse_missing_split(facts: DatasetInfo, split: str) -> None:
    """Refuse a split that the data set does not have, or that it was trained on."""
    there = [*facts.validation, *(name for name in facts.others if name not in facts.validation)]
    if split in there:
        return
    hint = f"evaluate one of {', '.join(there)}" if there else "the data set has none to evaluate"
    if split == "test" and facts.kind == "arrays" and facts.val is not None:
        hint = (
            f"{facts.name} is evaluated on its test set as val; data.val_size=N splits a validation set off"
        )
    elif facts.kind == "user":
        hint += f'; {facts.name} may return more: {{"train": …, "val": …, "{split}": …}}'
    raise UsageError(f"--split {split}: {facts.name} has no such split", hint)

"""The ranks' side of ``launch check``: looks at the user's code in one process, then takes real steps in several.

The launcher starts it as ``SPEC --check TASK``; each task writes its result beside its file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...data.common import LockstepError, write_json
from ..checkpoint import checkpoints_folder, load_frozen_weights, load_initial_weights
from ..components import batch_norm
from ..config import Precision, RunSpec, read_spec
from ..losses import ignored_label, is_built_in
from ..rank import Group, join, reported, tune_cpu_and_allocator
from ..session import Session, StepSeeder, build_session, build_training, training_mode
from .data_checks import Labels, check_labels, check_length, check_samples, open_splits, read_labels
from .finding import Finding
from .hook_checks import check_hooks
from .loss_checks import check_directions, check_metrics
from .mode_checks import Modes, compare_modes, modules_in_evaluation_mode
from .model_checks import check_randomness, check_unused
from .probe_batch import check_independence, check_objective, probe_first_batch, unreached
from .schedule_checks import check_learning_rates
from .trial_steps import StepsTask, kill_after_steps, run_steps

_EVALUATION_SECONDS = 8.0  # more than this is not spent on counting the validation set


def main(argv: list[str], train: Callable[[list[str]], int]) -> int:
    """Run ``SPEC --check TASK``; return the exit status.

    Args:
        argv: TASK is a JSON file; its ``task`` is ``probe``, ``steps`` or ``die``.
        train: trains the spec; ``die`` lets it, and kills it on its way.
    """
    path, task_path = Path(argv[0]), Path(argv[2])
    task = json.loads(task_path.read_text(encoding="utf-8"))
    if task["task"] == "die":
        kill_after_steps(task["steps"], checkpoints_folder(path.parent))
        return train(argv[:1])
    rank = int(os.environ.get("RANK", "0"))
    work = partial(_run, path, task, task_path, rank)
    return reported(work, Path(os.environ["LOCKSTEP_ATTEMPT_DIR"]), rank)


def _run(spec_path: Path, task: dict[str, Any], path: Path, rank: int) -> int:
    spec = _uncompiled(read_spec(spec_path))
    tune_cpu_and_allocator()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    group = join(gpu=os.environ["LOCKSTEP_DEVICE"] == "gpu")
    if task["task"] == "probe":
        result = probe(spec, group, task["world_size"])
    else:
        session = build_session(spec, group)
        load_frozen_weights(session)
        load_initial_weights(session, spec.weights)
        result = run_steps(build_training(session), _steps_task(task))
    write_json(path.with_name(f"{path.stem}-{rank}.json"), result, durable=True)
    group.close()
    return 0


def _uncompiled(spec: RunSpec) -> RunSpec:
    """Leave the compiler out: the model's own code is checked, module by module."""
    train = spec.config.train.model_copy(update={"compile": False})
    return replace(spec, config=spec.config.model_copy(update={"train": train}))


def _steps_task(task: dict[str, Any]) -> StepsTask:
    paths: dict[str, Any] = {key: task.get(key) and Path(task[key]) for key in ("against", "checkpoints")}
    known: dict[str, Any] = {
        key: task[key] for key in ("last", "first", "still", "record", "bits", "evaluate") if key in task
    }
    return StepsTask(out=Path(task["out"]), **known, **paths)


@dataclass
class ProbeResult:
    """The findings of one process about the user's code."""

    findings: list[Finding]
    precision: str = "auto"
    """In which the model can be compared: ``fp64`` where its code allows that."""
    still: str = "modules"
    """What has to be stilled before numbers of processes can be compared."""
    stilled: str = ""
    """The same in words."""
    evaluate: bool = True
    """Whether an evaluation is over soon."""

    @property
    def blocked(self) -> bool:
        """Say whether nothing can be trained before something is corrected."""
        return any(finding.blocks for finding in self.findings)


def probe(spec: RunSpec, group: Group, world_size: int) -> dict[str, Any]:
    """Find out everything that one process can; samples first, as workers are forked from a young process."""
    splits = open_splits(spec)
    findings = [check_length(splits)]
    if findings[0].blocks:
        return _result(ProbeResult(findings))
    findings.append(check_samples(splits, spec))
    labels = read_labels(splits, spec.config.train.seed, skip=spec.config.data.on_bad == "skip")
    probe = _probe_model_in_fp64(spec, group, labels, world_size) or _probe_model(
        spec, group, labels, world_size, spec.config.train.precision
    )
    probe.findings = findings + probe.findings
    if spec.config.hooks is not None and not probe.blocked:
        probe.findings.append(_call_hooks(spec, group))
    return _result(probe)


def _result(probe: ProbeResult) -> dict[str, Any]:
    return {
        "findings": [finding.to_json() for finding in probe.findings],
        "precision": probe.precision,
        "still": probe.still,
        "stilled": probe.stilled,
        "evaluate": probe.evaluate,
        "blocked": probe.blocked,
    }


def _probe_model_in_fp64(
    spec: RunSpec, group: Group, labels: list[Labels], world_size: int
) -> ProbeResult | None:
    """Run the checks in fp64; return None where the user's code does not support it."""
    try:
        probe = _probe_model(spec, group, labels, world_size, "fp64")
    except Exception:  # noqa: BLE001 - it is reported again in the run's own precision, if it was not that
        return None
    return None if probe.blocked else probe


def _probe_model(
    spec: RunSpec, group: Group, labels: list[Labels], world_size: int, precision: Precision
) -> ProbeResult:
    session = build_session(_single_process_spec(spec, precision), group)
    load_frozen_weights(session)
    load_initial_weights(session, spec.weights)
    built = modules_in_evaluation_mode(session.model)
    batch = probe_first_batch(session, build_training)
    loss = spec.config.trained_loss
    own_loss = loss is None or not is_built_in(loss)
    findings = [check_labels(labels, batch.scores, ignored_label(loss), own_loss=own_loss)]
    if findings[0].verdict == "FAIL":
        return ProbeResult([replace(findings[0], blocks=True)], precision)
    findings += check_objective(session, batch)
    if batch.cut is not None:
        findings += check_metrics(session.metrics, batch.cut)
    findings.append(check_directions(spec.config, session.metrics))
    few = batch.parts[min(1, len(batch.parts) - 1)]  # every module's output is hashed
    logical = spec.config.train.logical_ranks
    modes = _modes(session, few, built, logical or world_size)
    findings.append(modes.evaluation or check_independence(session, batch, modes.depends))
    findings += [modes.undone] if modes.undone else []
    draws = StepSeeder(spec.config.train.seed, 0, group.device)
    randomness, still = check_randomness(session.module, few, draws, keyed=logical is not None)
    findings.append(randomness)
    still = modes.still or still
    words = "" if logical else _in_words(session.model, still)
    probe = ProbeResult(findings, precision, still, words, batch.evaluation_seconds < _EVALUATION_SECONDS)
    if not probe.blocked:
        unused = build_training(session).unused
        findings.append(check_unused(unused, unreached(session, unused)))
        findings.append(check_learning_rates(spec, session.model))
    return probe


def _call_hooks(spec: RunSpec, group: Group) -> Finding:
    """Call the hooks beside a model of their own, in the run's precision: they may make tensors for it."""
    session = build_session(_single_process_spec(spec, spec.config.train.precision), group)
    load_frozen_weights(session)
    load_initial_weights(session, spec.weights)
    return check_hooks(build_training(session))


def _modes(session: Session, x: Any, built: list[str], world_size: int) -> Modes:
    try:
        return compare_modes(session, x, built, world_size)
    except LockstepError:
        raise
    except Exception:
        build_training(session)  # says better why model and data do not fit
        raise


def _in_words(model: nn.Module, still: str) -> str:
    """Say what is stilled where numbers of processes are compared."""
    with training_mode(model, training=True):
        parts = " and ".join(batch_norm.world_size_dependent_layers(model))
    return "in evaluation mode" if still == "all" else f"without {parts}" if parts else ""


def _single_process_spec(spec: RunSpec, precision: Precision) -> RunSpec:
    config = spec.config
    data = config.data.model_copy(update={"workers": 0})
    train = config.train.model_copy(update={"precision": precision})
    return replace(spec, config=config.model_copy(update={"data": data, "train": train}))

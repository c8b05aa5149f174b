"""``launch check``: a few real steps, recorded and compared: with another number of processes, and after a resume."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._pytree import tree_map

from ...data.loading import StepBatch
from ...data.samples import named_parts
from ..checkpoint import list_checkpoints, open_newest, restore
from ..loop import evaluate
from ..session import StepSeeder, Training
from .model_checks import stilled
from .tensor_recorder import Recorder, TensorHash, first_difference, module_location

_RELATIVE_FLOOR = 1e-3  # of the largest entry of all: what is smaller is rounding
_CHECKPOINT_TIMEOUT = 120  # seconds for a checkpoint that is under way
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class StepsTask:
    """The steps to run, and what to compare them with."""

    out: Path
    """A folder for what is recorded."""
    last: int
    """Steps of the run."""
    first: int = 0
    """Steps that a checkpoint brings."""
    still: str = ""
    """As in ``stilled``; empty changes nothing."""
    against: Path | None = None
    """The folder of another such run."""
    checkpoints: Path | None = None
    """Where the checkpoint of step ``first`` lies."""
    record: bool = False
    """Record every sample, module and gradient, instead of comparing numbers."""
    bits: bool = False
    """Record them by logical rank, and each weight by itself: to be compared over numbers of processes."""
    evaluate: bool = False


def run_steps(training: Training, task: StepsTask) -> dict[str, Any]:
    """Take the steps and compare; the same on every rank, but for what is only recorded.

    Returns:
        ``difference`` of a recording, else ``gradient`` and ``weight`` with the worst parameter of each.
    """
    if task.checkpoints is not None:
        restore(training, open_newest(task.checkpoints, task.first)[1])
    task.out.mkdir(exist_ok=True)
    model = training.session.model
    model.train()
    if task.bits:
        return _bits(training, task)
    if task.record:
        return _recorded(training, task)
    with stilled(model, task.still):
        gradients = _run_recorded_steps(training, task, None)
    weights = {name: tensor.detach().cpu() for name, tensor in model.named_parameters()}
    with training.ema.applied():
        metrics = evaluate(training.session) if task.evaluate else {}
    result: dict[str, Any] = {"metrics": metrics}
    if training.session.group.rank == 0:
        if task.against is None:
            _save(task.out / "gradients.safetensors", gradients)
            _save(task.out / "weights.safetensors", weights)
        else:
            result["gradient"] = largest_difference(
                load_file(task.against / "gradients.safetensors"), gradients
            )
            result["weight"] = largest_difference(load_file(task.against / "weights.safetensors"), weights)
    return result


def _run_recorded_steps(training: Training, task: StepsTask, recorder: Recorder | None) -> Tensors:
    """Run the steps; return the gradients of the first of them."""
    session, first_gradients = training.session, Tensors()
    config = session.spec.config
    draws = StepSeeder(config.train.seed, session.group.rank, session.group.device)
    step = task.first
    while step < task.last:
        epoch, at = divmod(step, session.batches.steps)
        for fetched in session.train_feed.fetch(session.train_work(epoch, at)):
            if recorder is not None:
                recorder.step = step
                _note_weights(recorder, session.model, each=task.bits)
                _note_samples(recorder, fetched)
            draws.reseed(step)
            training.begin_step(step)
            samples = 0 if fetched.work.stand_in else fetched.indices.size
            training.stepper.run(fetched, session.batches.size(step % session.batches.steps), samples)
            if recorder is not None:
                _note_gradients(recorder, session.model)
            first_gradients = first_gradients or _gradients(session.model)
            step += 1
            training.ema.update(step)
            if step == task.last:
                break
    return first_gradients


def _gradients(model: nn.Module) -> Tensors:
    named = model.named_parameters()
    return {name: p.grad.detach().to("cpu", copy=True) for name, p in named if p.grad is not None}


def _save(path: Path, tensors: Tensors) -> None:
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)


def largest_difference(one: Tensors, other: Tensors) -> dict[str, Any]:
    """Find the parameter that differs most, relative to its own largest entry.

    Entries far below the largest of all parameters are rounding themselves: there the difference counts
    against a thousandth of that one.
    """
    floor = _RELATIVE_FLOOR * max(
        (float(t.double().abs().max()) for t in one.values() if t.numel()), default=0.0
    )
    found: dict[str, Any] = {"name": "", "difference": 0.0, "relative": 0.0}
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other:
            return {"name": name, "difference": float("inf"), "relative": float("inf")}
        mine, theirs = one[name].double(), other[name].double()
        if not mine.numel():
            continue
        difference = float((mine - theirs).abs().max())
        relative = difference / max(float(mine.abs().max()), floor, 1e-300)
        this = {"name": name, "difference": difference, "relative": relative}
        if math.isnan(relative):
            return this
        found = max(found, this, key=lambda parameter: float(parameter["relative"]))
    return found


def _recorded(training: Training, task: StepsTask) -> dict[str, Any]:
    """Record on every rank; return the first step's difference from the earlier recording of the rank."""
    session = training.session
    with Recorder(session.model) as recorder:
        _run_recorded_steps(training, task, recorder)
    path = f"marks-{session.group.rank}.json"
    (task.out / path).write_text(json.dumps([mark.to_json() for mark in recorder.marks]), encoding="utf-8")
    if task.against is None:
        return {}
    before = [TensorHash(**mark) for mark in json.loads((task.against / path).read_text(encoding="utf-8"))]
    differs = first_difference([mark for mark in before if mark.step >= task.first], recorder.marks)
    if differs is None:
        return {"difference": None}
    who, where = _describe_mark(session.model, differs)
    return {"difference": {"step": differs.step, "kind": differs.kind, "who": who, "where": where}}


def _bits(training: Training, task: StepsTask) -> dict[str, Any]:
    """Record on every rank by logical rank; the launcher compares what two numbers of processes recorded."""
    session, stepper = training.session, training.stepper
    with Recorder(session.model, part=lambda: getattr(stepper, "logical_rank", None)) as recorder:
        _run_recorded_steps(training, task, recorder)
    recorder.step = task.last
    _note_weights(recorder, session.model, each=True)
    modules = {name: module_location(session.model, name) for name, _ in session.model.named_modules()}
    document = {"marks": [mark.to_json() for mark in recorder.marks], "modules": modules}
    (task.out / f"marks-{session.group.rank}.json").write_text(json.dumps(document), encoding="utf-8")
    with training.ema.applied():
        return {"metrics": evaluate(session) if task.evaluate else {}}


def _note_weights(recorder: Recorder, model: nn.Module, *, each: bool) -> None:
    if not each:
        recorder.note("weights", "the weights", list(model.state_dict().values()))
        return
    for name, tensor in model.state_dict().items():
        recorder.note("weights", name, tensor)


def _describe_mark(model: nn.Module, mark: TensorHash) -> tuple[str, str]:
    """Describe what a mark stands for, and where in the user's code that is."""
    if mark.kind in ("enter", "leave"):
        return module_location(model, mark.name)
    return mark.name, ""


def _note_samples(recorder: Recorder, fetched: StepBatch) -> None:
    """Record one mark for each input and target, or for each sample that is not a pair."""
    if fetched.work.stand_in:
        return
    at, first = 0, fetched.work.start
    for size, micro in zip(fetched.work.micro, fetched.micro, strict=True):
        for row in range(size):
            index = int(fetched.indices[at + row])
            for name, part in named_parts(micro, whole="values"):
                recorder.note("sample", f"the {name} of sample {index}", _row(part, row), first + at + row)
        at += size


def _row(value: Any, row: int) -> Any:
    return tree_map(lambda leaf: leaf[row] if isinstance(leaf, torch.Tensor) and leaf.ndim else leaf, value)


def _note_gradients(recorder: Recorder, model: nn.Module) -> None:
    """Record gradients from the last parameter to the first, as backward reaches them."""
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None:
            recorder.note("gradient", f"the gradient of {name}", parameter.grad)


def kill_after_steps(steps: int, checkpoints: Path) -> None:
    """Kill this rank as a machine would, after this many optimizer steps and with a checkpoint on the disk."""
    taken = 0

    def count(*_: Any) -> None:
        nonlocal taken
        taken += 1
        if taken == steps:
            _wait_for(checkpoints)
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_post_hook(count)


def _wait_for(checkpoints: Path) -> None:
    """Wait for a checkpoint: it may still be being written in the background."""
    deadline = time.monotonic() + _CHECKPOINT_TIMEOUT
    while time.monotonic() < deadline:
        with suppress(OSError):
            if list_checkpoints(checkpoints):
                return
        time.sleep(0.02)

"""Exports a trained model in a short-lived child process, and checks that the exported one answers the same.

Reads one JSON document on stdin and answers with one on stdout, like ``exported_model``, which it asks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ...data.common import DamagedError, TrainingError, UsageError
from ..checkpoint import (
    StoredCheckpoint,
    checkpoints_folder,
    load_frozen_weights,
    load_safetensors,
    load_weights,
    open_newest,
    tensors_sha256,
)
from ..config import RunSpec, read_spec
from ..rank import Group
from ..session import Session, build_session, materialise_lazy_modules
from .child import answer_with, writing
from .model_calls import ModelCall, record_calls, tensors_of

_CHECK_MODULE = "lockstep.training.inference.exported_model"
TOLERANCE = 1e-6
"""Of a tensor's largest value, or of 1 where that is less."""


@dataclass(frozen=True)
class ExportRequest:
    """A request for an export, as the launcher makes it."""

    folder: Path
    """Of the run."""
    step: int | None
    """Of the checkpoint; None is the newest whole one."""
    format: str
    out: Path
    """The file that is written."""
    average: bool | None
    """True: the averaged weights; False: those that were trained; None: the averaged ones where there are some."""


def export(request: ExportRequest) -> dict[str, Any]:
    """Write the file, check it, and return what was exported.

    Raises:
        UsageError: the run has no such weights, or the format takes no such model.
        TrainingError: the exported model answers something else, or the model cannot be exported.
    """
    path, snapshot, damaged = open_newest(checkpoints_folder(request.folder), request.step)
    if request.average and not snapshot.ema:
        raise UsageError(
            f"{request.folder.name} keeps no average of its weights", "leave --ema out; train.ema keeps one"
        )
    average = request.average is not False
    document = {
        "checkpoint": path.name,
        "step": snapshot.state["step"],
        "weights": "average" if average and snapshot.ema else "trained",
        "damaged": [error.message for error in damaged],
    }
    if request.format == "safetensors":
        return document | _write_weights(request, snapshot, average=average)
    return document | _write_program(request, path, snapshot, average=average)


def _write_weights(request: ExportRequest, snapshot: StoredCheckpoint, *, average: bool) -> dict[str, Any]:
    stored = snapshot.weights if average else snapshot.model
    tensors = {name: tensor.whole().contiguous() for name, tensor in stored.items()}
    told = {"format": "pt", "run": request.folder.name, "step": str(snapshot.state["step"])}
    with writing(request.out):
        save_file(tensors, request.out, metadata=told)
    digest = tensors_sha256(tensors)
    if tensors_sha256(load_safetensors(request.out)) != digest:
        raise DamagedError(f"{request.out} does not hold what was written", "is the disk damaged?")
    return {"tensors": len(tensors), "weights_sha256": digest}


def _write_program(
    request: ExportRequest, path: Path, snapshot: StoredCheckpoint, *, average: bool
) -> dict[str, Any]:
    spec = _plain(read_spec(request.folder / "spec.json"))
    split = next(iter(spec.facts.validation), "train")
    session = build_session(spec, Group(0, 0, 1, torch.device("cpu")), training=False, splits=(split,))
    load_frozen_weights(session)
    weights = snapshot.weights if average else snapshot.model
    materialise_lazy_modules(session, weights)
    load_weights(session.model, weights, f"{spec.run} {path.name}", exact=False)
    session.model.eval()
    calls = record_calls(session, split)
    program = _exported(session, calls)
    if request.format == "onnx":
        _save_onnx(program, request.out)
    else:
        with writing(request.out):
            torch.export.save(program, request.out)
    differences = _checked(request, calls)
    facts = spec.facts
    scaled = facts.input_dtype == "uint8" and facts.scale_uint8
    return {
        "split": split,
        "batch_sizes": [call.samples for call in calls],
        "largest_difference": max(differences),
        "inputs": calls[0].described(),
        "normalise": {"divide_by": 255 if scaled else None, "mean": facts.mean, "std": facts.std},
    }


def _plain(spec: RunSpec) -> RunSpec:
    """Leave out of the model what is for training only."""
    model = spec.config.model.model_copy(
        update={"checkpointing": None, "sync_batch_norm": False, "channels_last": False}
    )
    return replace(spec, config=spec.config.model_copy(update={"model": model}))


def _exported(session: Session, calls: list[ModelCall]) -> torch.export.ExportedProgram:
    """Export the model; sizes that differ between its calls are left open.

    Raises:
        TrainingError: torch cannot follow what it does.
    """
    first = calls[0]
    try:
        with torch.no_grad():
            return torch.export.export(
                session.model, first.args, first.kwargs, dynamic_shapes=_free_sizes(calls)
            )
    except Exception as error:
        raise TrainingError(
            f"torch.export cannot follow {type(session.model).__name__}: {_first_line(error)}",
            "--format safetensors exports the weights alone; see torch.export's documentation on control flow",
        ) from error


def _free_sizes(calls: list[ModelCall]) -> torch.export.ShapesCollection | None:
    """Say which sizes of the first call are others in the second: that of the batch has to stay free."""
    if (
        len(calls) == 1 or calls[1].samples == 1
    ):  # 1 would stay 1: torch takes it for a size that is broadcast
        return None
    free = torch.export.ShapesCollection()
    first, second = (tensors_of((call.args, call.kwargs)) for call in calls[:2])
    for one, other in zip(first, second, strict=True):
        free[one] = [
            torch.export.Dim.STATIC
            if size == another
            else torch.export.Dim.DYNAMIC
            if size == calls[0].samples
            else torch.export.Dim.AUTO
            for size, another in zip(one.shape, other.shape, strict=True)
        ]
    return free


def _save_onnx(program: torch.export.ExportedProgram, out: Path) -> None:
    try:
        converted: Any = torch.onnx.export(program, dynamo=True, verbose=False)
        converted.save(str(out), external_data=False)
    except Exception as error:
        raise TrainingError(
            f"torch.onnx cannot convert the model: {_first_line(error)}",
            "--format torch-export keeps it as torch has it",
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _checked(request: ExportRequest, calls: list[ModelCall]) -> list[float]:
    """Have a fresh process answer the same calls; return the largest difference of each.

    Raises:
        TrainingError: it answers something else, or nothing.
    """
    file = request.out.with_suffix(".calls")
    try:
        torch.save([call.saved() for call in calls], file)
        question = {"file": str(request.out), "format": request.format, "calls": str(file)}
        child = subprocess.run(
            [sys.executable, "-P", "-m", _CHECK_MODULE],
            input=json.dumps(question),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        file.unlink(missing_ok=True)
    with suppress(ValueError, IndexError):
        answer = json.loads(child.stdout.splitlines()[-1])
        if "problem" in answer:
            raise TrainingError(
                f"the exported model does not work in a process of its own: {answer['problem']}",
                "--format safetensors exports the weights alone",
            )
        return _refuse_other_answers(answer["differences"], calls)
    raise TrainingError(
        f"the process that checks the exported model ended with status {child.returncode}",
        "its output is above",
    )


def _refuse_other_answers(differences: list[float], calls: list[ModelCall]) -> list[float]:
    for difference, call in zip(differences, calls, strict=True):
        if not difference <= TOLERANCE:
            raise TrainingError(
                f"the exported model answers a batch of {call.samples} with other numbers:"
                f" the largest difference is {difference:.3g} of the largest value, and {TOLERANCE:g} was allowed",
                "does its forward pass branch on values or keep state? --format safetensors exports the weights alone",
            )
    return differences


def main() -> None:
    """Answer the request on stdin."""
    asked = json.load(sys.stdin)
    request = ExportRequest(**{**asked, "folder": Path(asked["folder"]), "out": Path(asked["out"])})
    answer_with(lambda: export(request))


if __name__ == "__main__":
    main()

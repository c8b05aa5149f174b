"""``launch export``: a run's model as a file that other programs load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...data.common import MachineError, UsageError
from ...training.checkpoint import checkpoints_folder, newest_checkpoint_step
from ...training.config import read_spec
from ..console import print_json, print_messages, print_results, put_in_place, refuse_output, temporary_file
from ..process import ask_child
from ..runs import find_run
from ..train import DataPreparation, renew_spec, resolve_checkpoint_step

FORMATS = {"safetensors": ".safetensors", "torch-export": ".pt2", "onnx": ".onnx"}
_ONNX = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Export:
    """Choices of an export: what, and where to."""

    format: str = "safetensors"
    out: Path | None = None
    checkpoint: str | None = None
    average: bool | None = None
    """None: what evaluation uses."""
    force: bool = False


def export_run(name: str, asked: Export, *, as_json: bool) -> int:
    """Export a run's model and say what was checked; return the exit status."""
    _refuse_format(asked.format)
    folder = find_run(name)
    step = _checkpoint_step(folder, asked.checkpoint)
    likely = asked.out or _default_path(folder, step, asked.format)
    refuse_output(likely, force=asked.force)
    if asked.format != "safetensors":
        spec = read_spec(folder / "spec.json")
        renew_spec(folder, spec, DataPreparation(spec.config.data, spec.base).wait())
    with temporary_file(likely) as temporary:
        question = {
            "folder": str(folder),
            "step": step,
            "format": asked.format,
            "out": str(temporary),
            "average": asked.average,
        }
        answer = ask_child("lockstep.training.inference.model_export", question, "export")
        named = asked.out or _default_path(folder, answer["step"], asked.format)
        put_in_place(temporary, named, force=asked.force)
    out = named.absolute()
    document = {"schema_version": 1, "run": folder.name, "format": asked.format, "path": str(out), **answer}
    print_messages(f"warning: passed over: {damaged}" for damaged in document["damaged"])
    if as_json:
        print_json(document | {"bytes": out.stat().st_size})
    else:
        print_results(_lines(document, named))
    return 0


def _refuse_format(kind: str) -> None:
    if kind not in FORMATS:
        raise UsageError(f"--format {kind}: not a format", f"use {', '.join(FORMATS)}")
    missing = [package for package in _ONNX if kind == "onnx" and find_spec(package) is None]
    if missing:
        raise MachineError(f"--format onnx needs {', '.join(missing)}", "pip install 'lockstep-train[onnx]'")


def _checkpoint_step(folder: Path, checkpoint: str | None) -> int | None:
    return None if checkpoint in (None, "last") else resolve_checkpoint_step(folder, str(checkpoint))


def _default_path(folder: Path, step: int | None, kind: str) -> Path:
    """Return the file that a checkpoint is written to; without a step, what the newest one's is likely to be."""
    if step is None:
        step = newest_checkpoint_step(checkpoints_folder(folder), 0)
    return Path(f"{folder.name}-step{step}{FORMATS[kind]}")


def _lines(document: dict[str, Any], out: Path) -> Iterator[str]:
    which = "averaged weights" if document["weights"] == "average" else "weights"
    yield f"{out}: {which} of {document['run']} {document['checkpoint']}, {out.stat().st_size:,} bytes"
    if document["format"] == "safetensors":
        yield f"checked: {document['tensors']} tensors, SHA-256 {document['weights_sha256']}, as the checkpoint's"
        return
    sizes = ", ".join(map(str, document["batch_sizes"]))
    yield (
        f"checked in a fresh process: batches of {sizes} from {document['split']} are answered alike,"
        f" within {document['largest_difference']:.1e}"
    )
    for given in document["inputs"]:
        yield f"input{given['name']}: {given['dtype']} [{', '.join(map(str, given['shape']))}]"
    if steps := _normalisation(document["normalise"]):
        yield f"feed it what training did: {steps}"


def _normalisation(how: dict[str, Any]) -> str:
    """Say what is done to stored values before the model gets them; nothing where that is nothing."""
    parts = [f"bytes divided by {how['divide_by']}"] if how["divide_by"] else []
    parts += [f"minus {_numbers(how['mean'])}"] if how["mean"] else []
    parts += [f"divided by {_numbers(how['std'])}"] if how["std"] else []
    return ", then ".join(parts)


def _numbers(values: list[float]) -> str:
    return (
        f"[{', '.join(f'{value:.6g}' for value in values)}] by channel"
        if len(values) > 1
        else f"{values[0]:.6g}"
    )

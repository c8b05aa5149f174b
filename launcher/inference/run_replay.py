"""``launch replay``: the samples of one step of a training, and the loss of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ...data.common import UsageError
from ...training.config import read_spec
from ...training.tracking import read_events
from ..console import new_file, print_json, print_results, refuse_output
from ..process import ask_child
from ..runs import find_run
from ..train import DataPreparation, renew_spec

_OF_ATTEMPTS = ("max_micro_batch",)
"""Keys of the ``data:`` section that each attempt says of itself: they may differ between attempts."""
_SHOWN = 40  # samples in a terminal
_SUFFIXES = (".safetensors",)


def replay_step(
    name: str, step: int, rank: int | None, out: Path | None, *, force: bool, as_json: bool
) -> int:
    """Print what a step of a run was made of; return the exit status.

    Args:
        name: of the run.
        step: counted from 1, as in the record.
        rank: this one only; None is every rank.
        out: a safetensors file for its tensors.
        force: replace that file.
        as_json: print one document.

    Raises:
        UsageError: the run has taken no such step, had no such rank, or is cut into logical ranks.
    """
    folder = find_run(name)
    start = _start_before(folder, step)
    world_size: int = start["world_size"]
    if rank is not None and rank not in range(world_size):
        raise UsageError(
            f"--rank {rank}: there was no such rank at step {step:,}", f"count from 0 to {world_size - 1}"
        )
    if out is not None:
        refuse_output(out, _SUFFIXES, force=force)
    spec = read_spec(folder / "spec.json")
    if spec.config.train.logical_ranks is not None:
        raise UsageError(
            f"{folder.name} has logical ranks, whose passes are not those of processes",
            "`launch show` draws its samples; `launch check` compares its passes",
        )
    renew_spec(folder, spec, DataPreparation(spec.config.data, spec.base).wait())
    with nullcontext() if out is None else new_file(out, _SUFFIXES, force=force) as temporary:
        question = {
            "folder": str(folder),
            "step": step,
            "ranks": list(range(world_size)) if rank is None else [rank],
            "world_size": world_size,
            "data": {key: start[key] for key in _OF_ATTEMPTS if key in start},
            "out": None if temporary is None else str(temporary),
        }
        answer = ask_child("lockstep.training.inference.replay", question, "replay")
    document = {"schema_version": 1, "run": folder.name, "step": step, "world_size": world_size, **answer}
    if as_json:
        print_json(document | {"out": None if out is None else str(out.absolute())})
    else:
        print_results(_lines(document, out))
    return 0


def _start_before(folder: Path, step: int) -> dict[str, Any]:
    """Return what the record says of the attempt that has taken a step.

    Raises:
        UsageError: the run has not come so far.
    """
    start: dict[str, Any] = {}
    newest = 0
    for event in read_events(folder / "metrics.jsonl"):
        newest = max(newest, event.get("step") or 0)
        if event["event"] == "start" and (event.get("step") or 0) < step:
            start = event
    if not newest:
        raise UsageError(
            f"--step {step}: {folder.name} has recorded no step", "`launch status` says how it is"
        )
    if step < 1 or step > newest or not start:
        raise UsageError(
            f"--step {step}: {folder.name} has recorded {newest:,} steps", f"name one from 1 to {newest:,}"
        )
    return start


def _lines(document: dict[str, Any], out: Path | None) -> Iterator[str]:
    count = document["world_size"]
    where = f"epoch {document['epoch']}, step {document['step_of_epoch']:,} of it"
    yield f"{document['run']} step {document['step']:,}: {where}, {count} rank{'s' * (count != 1)}"
    used = document["weights_step"]
    source = f"the checkpoint of step {used:,}" if used else "the beginning"
    if behind := document["step"] - 1 - used:
        yield f"weights: of {source}, {behind:,} steps before; the losses are not those of that time"
    else:
        yield f"weights: those that the step began with ({source})"
    if document["mixes_ranks"]:
        yield "each rank by itself: in training the model sees all ranks' samples, and its losses are others"
    rows = sorted(document["samples"], key=lambda row: -(row["loss"] or 0.0))
    yield "  rank  micro-batch     sample        loss"
    for row in rows[:_SHOWN]:
        loss = "-" if row["loss"] is None else f"{row['loss']:.6g}"
        yield f"  {row['rank']:>4}  {row['micro_batch']:>11}  {row['index']:>9,}  {loss:>10}"
    if len(rows) > _SHOWN:
        yield f"  … {len(rows) - _SHOWN:,} more, of smaller losses; --json has all"
    if rows and all(row["loss"] is None for row in rows):
        yield "its loss is a sum over the batch, or no number: there is none for each sample"
    if out is not None:
        yield f"tensors: {out}"

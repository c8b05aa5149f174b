"""``launch predict``: what a run's model says of files, folders, tables, stdin or a split of its data."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.common import UsageError, write_json, write_text
from ...training.config import read_spec
from ..console import new_file, print_messages, print_results, refuse_output
from ..control import SupervisorPage
from ..machine import reserve_gpus
from ..options import SupervisionOptions
from ..runs import find_run, names_run
from ..supervisor import Launch, next_attempt_folder
from ..train import (
    DataPreparation,
    TrainRequest,
    WorkerWorkload,
    refuse_missing_split,
    renew_spec,
    resolve_checkpoint_step,
    worker_agent,
)

FORMATS = ("csv", "jsonl")
_FILE = "prediction.json"
_SHOWN = 1000  # lines in one write


@dataclass(frozen=True)
class Prediction:
    """A question to a run's model."""

    sources: tuple[str, ...] = ()
    """Files, folders, and ``-`` for stdin."""
    split: str | None = None
    checkpoint: str | None = None
    resize: bool = False
    raw: bool = False
    format: str = "csv"
    out: Path | None = None
    force: bool = False
    """Replace that file."""


def predict_with_run(name: str, request: TrainRequest, asked: Prediction) -> int:
    """Predict, and print or write a row for each input; return the exit status."""
    if asked.format not in FORMATS:
        raise UsageError(f"--format {asked.format}: not a format", f"use {' or '.join(FORMATS)}")
    if not asked.sources and asked.split is None and not names_run(name):
        raise UsageError(
            f"{name}: neither a run nor a file to predict", "`launch status` lists runs; is the path right?"
        )
    if bool(asked.sources) == (asked.split is not None):
        raise UsageError(
            "predict what?", "name files, folders or - for stdin; or a split of the data set: --split val"
        )
    if asked.out is not None:
        refuse_output(asked.out, force=asked.force)
    folder = find_run(name)
    step = None if asked.checkpoint is None else resolve_checkpoint_step(folder, asked.checkpoint)
    spec = read_spec(folder / "spec.json")
    devices_unset = request.cpu is None and request.gpus is None and spec.device == "cpu"
    with reserve_gpus(
        request.gpus, 1 if devices_unset else request.cpu, f"the predictions of {folder.name}"
    ) as reservation:
        world = reservation.world
        attempt = next_attempt_folder(folder, "predict")
        agent = worker_agent(attempt, world, reservation.descriptors, trains=False)
        options = SupervisionOptions(request.supervision.hang_timeout)
        with Launch(attempt, agent, world, options) as launch:
            _write_question(attempt, asked, step)
            if asked.split is not None:
                facts = DataPreparation(spec.config.data, spec.base, by=launch.data).wait()
                refuse_missing_split(facts, asked.split)
                renew_spec(folder, spec, facts)
            argv = [str(folder / "spec.json"), "--predict", str(attempt / _FILE)]
            page = SupervisorPage(world.processes)
            failure = launch.run(WorkerWorkload(argv, world, fenced=False, page=page))
        if failure is not None:
            raise failure
    _print(attempt, world.size, asked)
    shutil.rmtree(attempt)
    return 0


def _write_question(attempt: Path, asked: Prediction, step: int | None) -> None:
    sources = [
        str(_from_stdin(attempt)) if source == "-" else str(Path(source).resolve())
        for source in asked.sources
    ]
    question = {
        "sources": sources,
        "split": asked.split,
        "step": step,
        "resize": asked.resize,
        "raw": asked.raw,
    }
    write_json(attempt / _FILE, question)


def _from_stdin(attempt: Path) -> Path:
    """Keep what stands in stdin, as JSON lines or CSV, whichever it is."""
    text = sys.stdin.read() if sys.stdin is not None else ""
    path = attempt / ("stdin.jsonl" if text.lstrip()[:1] in ("[", "{") else "stdin.csv")
    write_text(path, text)
    return path


def _print(attempt: Path, ranks: int, asked: Prediction) -> None:
    lines = _lines(_rows(attempt, ranks), asked.format)
    if asked.out is not None:
        count = 0
        with (
            new_file(asked.out, force=asked.force) as temporary,
            temporary.open("w", encoding="utf-8") as file,
        ):
            for line in lines:
                file.write(line + "\n")
                count += 1
        print_messages([f"{asked.out}: {count - (asked.format == 'csv'):,} predictions"])
        return
    print_results(lines)


def _rows(attempt: Path, ranks: int) -> Iterator[dict[str, Any]]:
    """Read what the ranks have written, in the order of the inputs."""
    prefix = f"{attempt}/"
    for rank in range(ranks):
        with (attempt / f"part-{rank}.jsonl").open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                yield {**row, "input": row["input"].removeprefix(prefix)}


def _lines(rows: Iterator[dict[str, Any]], kind: str) -> Iterator[str]:
    header: list[str] = []
    for row in rows:
        if kind == "jsonl":
            yield json.dumps(row)
            continue
        flat = _flat(row)
        if not header:
            header = list(flat)
            yield _csv_line(header)
        yield _csv_line([flat.get(key, "") for key in header])


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Spread an output of several numbers over columns."""
    output = row.get("output")
    if not isinstance(output, list):
        return row
    numbers = dict(enumerate(_leaves(output)))
    spread = {f"output_{place}": value for place, value in numbers.items()}
    return {"input": row["input"], **spread, **({"target": row["target"]} if "target" in row else {})}


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _csv_line(values: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()

"""``launch eval``: a run's checkpoint, evaluated on any number of processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...data.common import LockstepError, UsageError, write_json
from ...data.config import DataConfig, as_trained, evaluation_section, names_function
from ...training.config import RunSpec, read_spec
from ..console import print_json, print_messages, print_results
from ..control import SupervisorPage
from ..machine import reserve_gpus
from ..options import SupervisionOptions
from ..runs import find_run
from ..supervisor import Launch, next_attempt_folder
from .data_preparation import DataPreparation, Preparer
from .resume import refuse_missing_split, renew_spec, resolve_checkpoint_step
from .train_request import TrainRequest
from .worker_workload import WorkerWorkload, worker_agent

_Arguments = tuple[list[str], list[str]]
"""Of the worker: the spec of other data, and the split."""


@dataclass(frozen=True)
class Evaluation:
    """A question for an evaluation: which checkpoint, and on what."""

    checkpoint: str | None = None
    """A step, or ``best``; None is the newest whole one."""
    split: str | None = None
    """Of the data set, in the place of its validation sets."""
    data: str | None = None
    """Other data than the run's: a path, or ``module:function``."""


def evaluate_run(name: str, request: TrainRequest, asked: Evaluation) -> int:
    """Evaluate a run's checkpoint on its own data or on other data; return the exit status.

    Args:
        name: of the run.
        request: how it is started.
        asked: the checkpoint and the data.
    """
    folder = find_run(name)
    step = [] if asked.checkpoint is None else [str(resolve_checkpoint_step(folder, asked.checkpoint))]
    spec = read_spec(folder / "spec.json")
    prepare = _preparation(folder, spec, asked)
    devices_unset = request.cpu is None and request.gpus is None and spec.device == "cpu"
    cpu = 1 if devices_unset else request.cpu
    options = SupervisionOptions(request.supervision.hang_timeout)
    with (
        reserve_gpus(request.gpus, cpu, f"the evaluation of {folder.name}") as reservation,
        _own_folder(folder) as attempt,
    ):
        world = reservation.world
        agent = worker_agent(attempt, world, reservation.descriptors, trains=False)
        with Launch(attempt, agent, world, options) as launch:
            on, split = prepare(attempt, launch.data)
            argv = [str(folder / "spec.json"), "--eval", *on, *step, *split]
            page = SupervisorPage(world.processes)  # ranks say at each batch that they live
            failure = launch.run(WorkerWorkload(argv, world, fenced=False, page=page))
        if failure is not None:
            raise failure
    _show(json.loads((attempt / "eval.json").read_text(encoding="utf-8")), asked, as_json=request.json)
    return 0


@contextmanager
def _own_folder(run: Path) -> Iterator[Path]:
    """Make the evaluation's folder; it is removed after a failure, unless that names a file in it."""
    attempt = next_attempt_folder(run, "eval")
    try:
        yield attempt
    except BaseException as error:
        said = f"{error.message} {error.hint}" if isinstance(error, LockstepError) else ""
        if str(attempt) not in said:
            shutil.rmtree(attempt, ignore_errors=True)
        raise


def _preparation(
    folder: Path, spec: RunSpec, asked: Evaluation
) -> Callable[[Path, Preparer | None], _Arguments]:
    """Return what prepares the data, once a process can be asked to; what is wrong beforehand is refused here."""
    if asked.data is None:
        return lambda _, by: _prepare_own(folder, spec, asked.split, by)
    if asked.split is not None and not names_function(asked.data):
        raise UsageError(
            f"--data {asked.data}: a file or a folder has no splits", f"leave out --split {asked.split}"
        )
    section = evaluation_section(spec.config.data, spec.facts, asked.data, Path.cwd())
    return lambda attempt, by: _prepare_other((folder, attempt), spec, section, asked, by)


def _prepare_own(folder: Path, spec: RunSpec, split: str | None, by: Preparer | None) -> _Arguments:
    facts = DataPreparation(spec.config.data, spec.base, by=by).wait()
    if split is not None:
        refuse_missing_split(facts, split)
    renew_spec(folder, spec, facts)
    return [], _on_split(split)


def _prepare_other(
    folders: tuple[Path, Path], spec: RunSpec, section: DataConfig, asked: Evaluation, by: Preparer | None
) -> _Arguments:
    """Prepare other data and write the spec with them; what the training's files decide is still as it was.

    Args:
        folders: of the run, and of the evaluation.
        spec: of the run.
        section: with the other data.
        asked: names them.
        by: prepares them.
    """
    folder, attempt = folders
    if not names_function(what := asked.data or ""):
        renew_spec(folder, spec, DataPreparation(spec.config.data, spec.base).wait())
    prepared = DataPreparation(section, spec.base, by=by).wait()
    several = section.pad is not None or section.collate is not None
    several = several or any(one.key in ("data.pad", "data.collate") for one in prepared.found)
    facts = as_trained(spec.facts, prepared, what, several_shapes=several)
    split = asked.split or (None if facts.validation else next(iter(facts.others)))
    if split is not None:
        refuse_missing_split(facts, split)
    config = spec.config.model_copy(update={"data": section})
    write_json(attempt / "spec.json", replace(spec, config=config, facts=facts).to_json())
    return ["--on", str(attempt / "spec.json")], _on_split(split)


def _on_split(split: str | None) -> list[str]:
    return [] if split is None else ["--split", split]


def _show(document: dict[str, Any], asked: Evaluation, *, as_json: bool) -> None:
    print_messages(f"warning: passed over: {damaged}" for damaged in document["damaged"])
    if as_json:
        print_json(document)
        return
    on = "" if asked.data is None else f" on {asked.data}"
    print_results([f"{document['run']} {document['checkpoint']}{on}"])
    print_results(f"{key}  {_figure(value)}" for key, value in document["metrics"].items())


def _figure(value: float | None) -> str:
    return "nan" if value is None else f"{value:.6g}"

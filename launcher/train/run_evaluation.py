"""``launch eval``: a run's checkpoint, evaluated on any number of processes."""

from __future__ import annotations

import json

from ...training.config import read_spec
from ..console import print_json, print_messages, print_results
from ..control import SupervisorPage
from ..machine import reserve_gpus
from ..options import SupervisionOptions
from ..runs import find_run
from ..supervisor import Launch, next_attempt_folder
from .data_preparation import DataPreparation
from .resume import refuse_missing_split, renew_spec, resolve_checkpoint_step
from .train_request import TrainRequest
from .worker_workload import WorkerWorkload, worker_agent


def evaluate_run(name: str, request: TrainRequest, checkpoint: str | None, split: str | None = None) -> int:
    """Evaluate a run's newest whole checkpoint, or the one of a step, or the best; return the exit status.

    Args:
        name: of the run.
        request: how it is started.
        checkpoint: which one.
        split: on this split of the data set instead of its validation sets.
    """
    folder = find_run(name)
    step = None if checkpoint is None else resolve_checkpoint_step(folder, checkpoint)
    spec = read_spec(folder / "spec.json")
    devices_unset = request.cpu is None and request.gpus is None and spec.device == "cpu"
    cpu = 1 if devices_unset else request.cpu
    argv = [str(folder / "spec.json"), "--eval", *([] if step is None else [str(step)])]
    argv += [] if split is None else ["--split", split]
    options = SupervisionOptions(request.supervision.hang_timeout)
    with reserve_gpus(request.gpus, cpu, f"the evaluation of {folder.name}") as reservation:
        world = reservation.world
        attempt = next_attempt_folder(folder, "eval")
        agent = worker_agent(attempt, world, reservation.descriptors, trains=False)
        with Launch(attempt, agent, world, options) as launch:
            facts = DataPreparation(spec.config.data, spec.base, by=launch.data).wait()
            if split is not None:
                refuse_missing_split(facts, split)
            renew_spec(folder, spec, facts)
            page = SupervisorPage(world.processes)  # ranks say at each batch that they live
            failure = launch.run(WorkerWorkload(argv, world, fenced=False, page=page))
    if failure is not None:
        raise failure
    document = json.loads((attempt / "eval.json").read_text(encoding="utf-8"))
    print_messages(f"warning: passed over: {damaged}" for damaged in document["damaged"])
    if request.json:
        print_json(document)
    else:
        print_results([f"{document['run']} {document['checkpoint']}"])
        print_results(f"{key}  {_figure(value)}" for key, value in document["metrics"].items())
    return 0


def _figure(value: float | None) -> str:
    return "nan" if value is None else f"{value:.6g}"

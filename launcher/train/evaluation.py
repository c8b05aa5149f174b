"""``launch eval``: a run's checkpoint, evaluated on any number of processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from ...data.common import LockstepError, write_json
from ...data.config import DatasetInfo
from ...training.config import RunSpec, read_spec
from ..console import put, put_json, say
from ..control import SupervisorPage
from ..hang import HangCoordinator, RankMonitor
from ..machine import World, reserve_gpus
from ..runs import find_run
from ..supervisor import next_attempt_folder
from .attempt import Attempt
from .resume import refuse_other_data, resolve_checkpoint_step
from .train_request import Request


def evaluate(name: str, request: Request, checkpoint: str | None) -> int:
    """Evaluate a run's newest whole checkpoint, or the one of a step, or the best; the exit status."""
    folder = find_run(name)
    step = None if checkpoint is None else resolve_checkpoint_step(folder, checkpoint)
    spec = read_spec(folder / "spec.json")
    unsaid = request.cpu is None and request.gpus is None and spec.device == "cpu"
    cpu = 1 if unsaid else request.cpu
    argv = [str(folder / "spec.json"), "--eval", *([] if step is None else [str(step)])]
    with (
        reserve_gpus(request.gpus, cpu, f"the evaluation of {folder.name}") as reservation,
        Attempt(next_attempt_folder(folder, "eval"), reservation.world, reservation.descriptors) as attempt,
    ):
        _renew(folder, spec, attempt.prepare(spec.config.data, spec.base))
        failure = _watched(attempt, argv, reservation.world, request.supervision.hang_timeout)
    if failure is not None:
        raise failure
    document = json.loads((attempt.folder / "eval.json").read_text(encoding="utf-8"))
    say(f"warning: passed over: {damaged}" for damaged in document["damaged"])
    if request.json:
        put_json(document)
    else:
        put([f"{document['run']} {document['checkpoint']}"])
        put(f"{key}  {_figure(value)}" for key, value in document["metrics"].items())
    return 0


def _watched(attempt: Attempt, argv: list[str], world: World, hang_timeout: float) -> LockstepError | None:
    """An evaluation, whose ranks say at each batch that they live."""
    page = SupervisorPage(world.processes)
    lookout = RankMonitor(attempt.folder, hang_timeout, world.processes, page.said)
    look = HangCoordinator(lookout, world.size, training=True).tick
    try:
        return attempt.run(argv, lambda: None, fenced=False, page=page, look=look)
    finally:
        page.close()


def _renew(folder: Path, spec: RunSpec, facts: DatasetInfo) -> None:
    """The data's files may have moved since, as when a cache was cleared; its contents may not."""
    refuse_other_data(spec.facts, facts)
    if facts != spec.facts:
        write_json(folder / "spec.json", replace(spec, facts=facts).to_json())


def _figure(value: float | None) -> str:
    return "nan" if value is None else f"{value:.6g}"

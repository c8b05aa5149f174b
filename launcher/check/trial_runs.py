"""The processes that ``launch check`` starts, in a folder that is thrown away."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...data.common import LockstepError, error_from_json, write_json
from ...data.config import DatasetInfo
from ...training.config import RunConfig, RunSpec, WeightsFile
from ...training.rank import take_ownership
from ..machine import World
from ..options import SupervisionOptions
from ..supervisor import Launch, next_attempt_folder
from ..train import WorkerWorkload, worker_agent


@dataclass(frozen=True)
class TrialRuns:
    """The runs of a check, which are started one after the other."""

    folder: Path
    base: Path
    """The folder that the config's relative paths start from."""
    facts: DatasetInfo
    device: Literal["cpu", "gpu"]
    weights: tuple[WeightsFile, ...] = ()
    """What the model starts from."""
    hang_timeout: float = SupervisionOptions.hang_timeout
    """Seconds for which ranks may wait for one that does nothing."""

    def spec(self, name: str, config: RunConfig) -> Path:
        """Write a new run's ``spec.json``; return its path."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        path = folder / "spec.json"
        spec = RunSpec(name, config, self.base, self.facts, self.device, "check", self.weights)
        write_json(path, spec.to_json())
        return path

    def task(self, spec: Path, world: World, **task: Any) -> list[dict[str, Any]]:
        """Start ranks for a task; return what each of them answers.

        Raises:
            LockstepError: a rank failed.
        """
        with self.launch(next_attempt_folder(spec.parent, "attempt"), world) as launch:
            return run_task(launch, spec, **task)

    def train(self, spec: Path, world: World, kill_after: int | None) -> LockstepError | None:
        """Train the run by the real worker, from where it stands; return why it ended, None where it is done."""
        argv = [str(spec)]
        if kill_after is not None:
            path = spec.parent / "die.json"
            write_json(path, {"task": "die", "steps": kill_after})
            argv += ["--check", str(path)]
        attempt = next_attempt_folder(spec.parent, "attempt")
        with self.launch(attempt, world) as launch:
            take_ownership(spec.parent, attempt.name)
            return _as_told_by_rank(attempt, launch.run(WorkerWorkload(argv, world, fenced=True)))

    def launch(self, attempt: Path, world: World) -> Launch:
        """Start the agent of ranks that do not say how far they are: hangs are judged as any program's."""
        return Launch(attempt, worker_agent(attempt, world), world, SupervisionOptions(self.hang_timeout))


def run_task(launch: Launch, spec: Path, **task: Any) -> list[dict[str, Any]]:
    """Let the ranks of ``launch`` do a task; return what each of them answers.

    Raises:
        LockstepError: a rank failed.
    """
    attempt, world = launch.attempt, launch.world
    path = attempt / "task.json"
    write_json(path, {"out": str(attempt / "out"), **task})
    argv = [str(spec), "--check", str(path)]
    failure = _as_told_by_rank(attempt, launch.run(WorkerWorkload(argv, world, fenced=False)))
    if failure is not None:
        raise failure
    answers = [attempt / f"task-{rank}.json" for rank in range(world.processes)]
    return [json.loads(answer.read_text(encoding="utf-8")) for answer in answers]


def _as_told_by_rank(attempt: Path, failure: LockstepError | None) -> LockstepError | None:
    """Return the failure as its rank told it: the log that it would name is about to be removed."""
    if failure is None:
        return None
    for path in sorted(attempt.glob("error-*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["message"] in failure.message:
            error = error_from_json(document)
            error.exit_status = int(document["exit_status"])
            error.message += "" if document["ours"] else f"\nat {document['where']}"
            return error
    return failure

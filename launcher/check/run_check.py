"""``launch check``: about a minute on the user's own model and data, before anything expensive is started."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...data.common import LockstepError, RankLostError, TrainingError
from ...data.config import SplitInfo
from ...training.check import Finding, finding_from_json
from ...training.checkpoint import checkpoints_folder
from ...training.config import RunConfig
from ..config import ResolvedConfig
from ..console import print_failure_card, print_messages
from ..machine import World, reserve_gpus
from ..options import SupervisionOptions
from ..supervisor import Launch
from ..train import DataPreparation, TrainRequest, find_initial_weights, refuse_more_processes, worker_agent
from .bit_comparison import compare_bits, read_recording
from .report import CheckReport
from .trial_runs import TrialRuns, run_task
from .verdicts import (
    CHECKPOINT,
    KILLED_AFTER,
    NOTHING,
    STEPS,
    ComparisonConditions,
    judge_bits,
    judge_evaluation,
    judge_resume,
    judge_steps,
    note_drawing,
    shorten_config,
    without_validation,
)

_PROCESSES = 2  # where nothing is asked for
_CAUSES = ("loss", "metric", "samples", "randomness", "model")


def check(resolved: ResolvedConfig, request: TrainRequest) -> int:
    """Look, step, kill and resume; return the exit status, 1 where the user's code breaks exactness."""
    devices_unset = request.cpu is None and request.gpus is None
    cpu = _PROCESSES if devices_unset else request.cpu
    table = CheckReport(as_json=request.json)
    failure: LockstepError | None = None
    with (
        reserve_gpus(request.gpus, cpu, f"a check of {resolved.name}") as reservation,
        _scratch() as (folder, keep),
    ):
        try:
            refuse_more_processes(resolved.config, reservation.world)
            hang_timeout = request.supervision.hang_timeout
            Check(folder, resolved, reservation.world, table, hang_timeout).run()
        except LockstepError as error:
            failure = error
            keep.append(f"{error.message}\n{error.hint}")
    status = table.conclude(failure)
    if failure is not None:
        print_failure_card(failure)
    return status


@contextmanager
def _scratch() -> Iterator[tuple[Path, list[str]]]:
    """Make a folder that is removed with the check, but for files that are named in the texts for users."""
    folder, words = Path(tempfile.mkdtemp(prefix="lockstep-check-")), list[str]()
    try:
        yield folder, words
    finally:
        files = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
        named = [path for path in files if any(str(path) in text for text in words)]
        if named:
            for path in set(files) - set(named):
                path.unlink()
        else:
            shutil.rmtree(folder, ignore_errors=True)


class Check:
    """One check, from the first look to the last comparison.

    Args:
        folder: empty, and removed afterwards.
        resolved: what the user wants to train.
        world: the processes that are compared with one.
        table: where findings go.
        hang_timeout: in seconds.
    """

    def __init__(
        self,
        folder: Path,
        resolved: ResolvedConfig,
        world: World,
        table: CheckReport,
        hang_timeout: float,
    ) -> None:
        self._folder = folder
        self._resolved = resolved
        self._world = world
        self._one = replace(world, processes=1, gpus=world.gpus[:1])
        self._table = table
        self._hang_timeout = hang_timeout
        self._runs: TrialRuns
        self._small: RunConfig
        self._val: SplitInfo | None = None

    def run(self) -> None:
        """Check everything, in the order in which one mistake hides another."""
        count = self._world.processes
        kind = "GPU" if self._world.gpus else "CPU"
        who = f"1 {kind} process" if count == 1 else f"{count} {kind} processes against 1"
        print_messages([f"checking {self._resolved.name}: {who}, about a minute"])
        self._table.add_facts(config=self._resolved.name, world_size=count, device=self._world.device)
        if (probe := self._probe()) is None:
            return
        if not probe["evaluate"]:
            self._runs = replace(self._runs, facts=without_validation(self._runs.facts))
        for document in probe["findings"]:
            finding = finding_from_json(document)
            if (finding.check, finding.verdict) == ("hooks", "FAIL"):
                finding = replace(finding, what=f"{finding.what}; what follows is tried without hooks")
                self._small = self._small.model_copy(update={"hooks": None})
            self._table.add(finding)
        if probe["blocked"]:
            what = "nothing was trained, killed and resumed: correct what failed first"
            self._table.add(Finding("steps", "NOTE", what))
            return
        logical = self._small.train.logical_ranks is not None
        self._under = ComparisonConditions(
            count, probe["precision"], probe["stilled"], self._cause(), bits=logical
        )
        if count > 1:
            self._compare_bits(probe) if logical else self._compare(probe)
        else:
            what = "one process has nothing to be compared with; --cpu 2 and more have"
            self._table.add(Finding("processes", "NOTE", what))
        self._kill_and_resume()

    def _probe(self) -> dict[str, Any] | None:
        """Return what one process sees; None where the data set cannot even be opened."""
        folder = self._folder / "look"
        folder.mkdir()
        config, base = self._resolved.config, self._resolved.base
        options = SupervisionOptions(self._hang_timeout)
        attempt = folder / "attempt-1"
        with Launch(attempt, worker_agent(attempt, self._one), self._one, options) as launch:
            try:
                given = DataPreparation(config.data, base, by=launch.data).wait()
                self._resolved, facts = self._resolved.with_found(given)
                config = self._resolved.config
            except TrainingError as error:
                what, _, where = error.message.partition("\nat ")
                self._table.add(Finding("data set", "FAIL", what, where, error.hint))
                return None
            weights = find_initial_weights(self._resolved)
            self._runs = TrialRuns(self._folder, base, facts, self._world.device, weights, self._hang_timeout)
            self._val = facts.val
            self._small = shorten_config(config, facts, self._world.processes)
            self._table.add_facts(batch_size=self._small.data.batch_size, steps=STEPS)
            spec = self._runs.spec("look", config)
            return run_task(launch, spec, task="probe", world_size=self._world.processes)[0]

    def _compare(self, probe: dict[str, Any]) -> None:
        """Compare the same steps by one process and by several."""
        train = self._small.train.model_copy(update={"precision": probe["precision"]})
        spec = self._runs.spec("steps", self._small.model_copy(update={"train": train}))
        task = {"task": "steps", "last": STEPS, "still": probe["still"], "evaluate": probe["evaluate"]}
        drawing = probe["still"] == NOTHING
        if drawing:
            task["last"] = 0  # evaluates the weights that it starts from
        one = self._runs.task(spec, self._one, **task)[0]
        many = self._runs.task(spec, self._world, **task, against=_out(spec, 1))[0]
        self._table.add(
            note_drawing(self._under)
            if drawing
            else judge_steps(many["gradient"], many["weight"], self._under)
        )
        self._table.add(self._evaluation(one["metrics"], many["metrics"]))

    def _compare_bits(self, probe: dict[str, Any]) -> None:
        """Compare all that happens in the same steps of the run as it is, in which nothing is switched off."""
        spec = self._runs.spec("steps", self._small)
        task = {"task": "steps", "last": STEPS, "bits": True, "evaluate": probe["evaluate"]}
        one = self._runs.task(spec, self._one, **task)[0]
        many = self._runs.task(spec, self._world, **task)[0]
        (alone,), modules = read_recording(Path(_out(spec, 1)))
        ranks, _ = read_recording(Path(_out(spec, 2)))
        steps = judge_bits(compare_bits(alone, ranks), modules, self._under)
        self._table.add(steps)
        if steps.verdict == "FAIL":  # what is evaluated differs already
            self._under = replace(self._under, cause=f"correct `{steps.check}`, which failed above, first")
        self._table.add(self._evaluation(one["metrics"], many["metrics"]))

    def _evaluation(self, one: dict[str, float], many: dict[str, float]) -> Finding:
        if self._val is None:
            return Finding("evaluation", "NOTE", "there is no validation set")
        if not one:
            what = f"{self._val.length:,} samples would take too long here; every epoch of a run counts them"
            return Finding("evaluation", "NOTE", what)
        return judge_evaluation(one, many, self._val.length, self._under)

    def _kill_and_resume(self) -> None:
        """Kill and resume the real worker, as a run would use it."""
        whole, killed = (self._runs.spec(name, self._small) for name in ("whole", "killed"))
        for spec, kill_after in ((whole, None), (killed, KILLED_AFTER), (killed, None)):
            failure = self._runs.train(spec, self._world, kill_after)
            if failure is None and kill_after:
                raise RankLostError("the run that was to be killed went on to its end", "run the check again")
            if failure is not None and not (kill_after and isinstance(failure, RankLostError)):
                raise failure
        one, other = (_outcome(spec) for spec in (whole, killed))
        if one["state_sha256"] == other["state_sha256"] and one["metrics"] == other["metrics"]:
            what = f"killed in step {KILLED_AFTER + 1}, resumed from step {CHECKPOINT}: equal to the bit"
            self._table.add(Finding("resume", "PASS", what))
        else:
            self._table.add(judge_resume(self._first_difference(killed), self._under))

    def _first_difference(self, killed: Path) -> dict[str, Any] | None:
        """Find what differs first between steps taken in one go and steps resumed or, before that, repeated."""
        spec = self._runs.spec("recorded", self._small)
        task = {"task": "steps", "last": STEPS, "record": True}
        self._runs.task(spec, self._world, **task)
        against = _out(spec, 1)
        checkpoints = str(checkpoints_folder(killed.parent))
        resumed = self._runs.task(
            spec, self._world, **task, first=CHECKPOINT, checkpoints=checkpoints, against=against
        )
        found = _earliest(resumed)
        if found is None or found["kind"] != "weights":
            return found
        return _earliest(self._runs.task(spec, self._world, **task, against=against)) or found

    def _cause(self) -> str:
        """Name the check that has already found what later ones will show."""
        failed = [name for name in self._table.failed if name.startswith(_CAUSES)]
        return f"correct `{failed[0]}`, which failed above, first" if failed else ""


def _out(spec: Path, attempt: int) -> str:
    return str(spec.parent / f"attempt-{attempt}" / "out")


def _outcome(spec: Path) -> dict[str, Any]:
    outcome: dict[str, Any] = json.loads((spec.parent / "outcome.json").read_text(encoding="utf-8"))
    return outcome


def _earliest(answers: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the first difference over the ranks."""
    found = [answer["difference"] for answer in answers if answer["difference"] is not None]
    return min(found, key=lambda difference: int(difference["step"])) if found else None

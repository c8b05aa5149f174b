"""A sweep's folder: ``sweep.json`` and the config's own text, from which every point can be made again.

The points are ordinary runs beside it: ``NAME-000``, ``NAME-001``, … Their state is in their folders, and in
``refused.json`` where one ended before it had a folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...data.common import DamagedError, UsageError, write_json
from ..runs import SWEEP, Status, is_run, is_sweep, point_folder, read_status

SCHEMA_VERSION = 1
_REFUSED = "refused.json"


@dataclass(frozen=True)
class Sweep:
    """A sweep as it was asked for."""

    folder: Path
    name: str
    """Of the recipe or file, without suffix: as in every run made from it."""
    config: str
    """The name of the config's copy in the folder."""
    base: Path
    """The folder that relative paths in the config are relative to."""
    fixed: list[str]
    """``key=value`` of every point."""
    axes: dict[str, list[str]]
    """What varies: key to its values, as they were written."""
    points: list[dict[str, str]]
    """The varied values of each point, in order."""
    launch: dict[str, Any] = field(default_factory=dict)
    """How each point is launched here: ``gpus``, ``cpu`` and the options of supervision. Of a submission: ``slurm``,
    the options of the command line, ``cluster`` and ``at_once``."""
    slurm: bool = False
    """Whether the points are tasks of a job array."""

    def overrides(self, index: int) -> list[str]:
        """Return a point's overrides of the config."""
        return [*self.fixed, *(f"{key}={value}" for key, value in self.points[index].items())]

    def run(self, index: int) -> Path:
        """Return a point's run folder."""
        return point_folder(self.folder, index)

    @property
    def labels(self) -> dict[str, str]:
        """Varied keys to the shortest end of each that is no other's: ``lr`` for ``optimizer.lr``."""
        return {key: _shortest(key, [other for other in self.axes if other != key]) for key in self.axes}

    def words(self, index: int) -> str:
        """Describe a point: ``lr=1e-2 seed=0``."""
        return " ".join(f"{self.labels[key]}={value}" for key, value in self.points[index].items())


def _shortest(key: str, others: list[str]) -> str:
    parts = key.split(".")
    for count in range(1, len(parts) + 1):
        end = ".".join(parts[-count:])
        if not any(other == end or other.endswith("." + end) for other in others):
            return end
    return key


@dataclass(frozen=True)
class SweepPoint:
    """One point, now."""

    index: int
    run: str
    values: Mapping[str, str]
    status: str
    """As of a run; ``waiting`` before there is one."""
    found: Status | None
    """Of its run; None where it has none."""
    refusal: Mapping[str, Any]
    """``exit_code`` and ``error`` of a launch that left no outcome; empty without one."""

    @property
    def exit_code(self) -> int | None:
        """The exit code of the newest launch; None while it is not over."""
        outcome = self.found.outcome if self.found else {}
        code = outcome.get("exit_code", self.refusal.get("exit_code"))
        return code if isinstance(code, int) else None

    @property
    def error(self) -> Mapping[str, Any]:
        """Why it failed."""
        outcome = self.found.outcome if self.found else {}
        unsaid = self.found.slurm.get("disagreement") if self.found and not outcome else None
        return outcome.get("error") or self.refusal.get("error") or ({"message": unsaid} if unsaid else {})

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """The metrics of the newest evaluation."""
        return self.found.metrics if self.found else {}


def write_sweep(sweep: Sweep) -> None:
    """Make its folder one of a sweep."""
    document = asdict(sweep) | {"folder": None, "base": str(sweep.base)}
    del document["folder"]
    write_json(sweep.folder / SWEEP, {"schema_version": SCHEMA_VERSION, **document})


def read_sweep(folder: Path) -> Sweep:
    """Read a sweep from its folder.

    Raises:
        DamagedError: the file cannot be read.
    """
    try:
        document = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
        del document["schema_version"]
        return Sweep(folder=folder, **{**document, "base": Path(document["base"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(
            f"{folder / SWEEP}: {error!r}", "start the sweep again under another --name"
        ) from error


def points_of(sweep: Sweep, known: Mapping[Path, Status] | None = None) -> list[SweepPoint]:
    """Return the state of every point.

    Args:
        sweep: theirs.
        known: runs that were looked at already.
    """
    refused = _read_refused(sweep.folder)
    return [
        _point(sweep, index, known or {}, refused.get(str(index), {})) for index in range(len(sweep.points))
    ]


def _point(sweep: Sweep, index: int, known: Mapping[Path, Status], refusal: dict[str, Any]) -> SweepPoint:
    folder = sweep.run(index)
    found = known.get(folder) or (read_status(folder) if is_run(folder) else None)
    status = found.status if found else "waiting"
    if refusal and (found is None or found.was_interrupted):
        status = "failed"
    elif found and found.was_interrupted:
        status = "failed" if _has_failed(found) else "interrupted"
    return SweepPoint(
        index, folder.name, sweep.points[index], status, found, refusal if status == "failed" else {}
    )


def _has_failed(found: Status) -> bool:
    """Check whether SLURM calls the job failed of a run that wrote no outcome, because its set-up failed, say."""
    state = str(found.slurm.get("state") or "").partition("+")[0]
    return state in ("FAILED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY", "DEADLINE")


def record_refusal(sweep: Sweep, index: int, exit_code: int, error: dict[str, Any]) -> None:
    """Record that a point's launch left no outcome of its own."""
    refused = _read_refused(sweep.folder) | {str(index): {"exit_code": exit_code, "error": error}}
    write_json(sweep.folder / _REFUSED, refused)


def forget_refusal(sweep: Sweep, index: int) -> None:
    """Forget a recorded refusal, because the point is tried again."""
    refused = _read_refused(sweep.folder)
    if refused.pop(str(index), None) is not None:
        write_json(sweep.folder / _REFUSED, refused)


def _read_refused(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        document = json.loads((folder / _REFUSED).read_text(encoding="utf-8"))
        if isinstance(document, dict):
            return document
    return {}


def all_sweeps(root: Path) -> Iterator[Sweep]:
    """Read every sweep in a folder of runs; one that cannot be read is left out."""
    for path in sorted(root.glob(f"*/{SWEEP}")):
        with suppress(DamagedError):
            yield read_sweep(path.parent)


def overall(points: list[SweepPoint]) -> str:
    """Return the state of a sweep as a whole."""
    states = {point.status for point in points}
    if states == {"done"}:
        return "done"
    for state in ("running", "stopping", "queued", "failed", "cancelled"):
        if state in states:
            return state
    return "stopped"


def refuse_sweep(folder: Path) -> None:
    """Refuse to resume a sweep as if it were a run: it has a command of its own.

    Raises:
        UsageError: it is one.
    """
    if is_sweep(folder):
        command = f"launch sweep {folder.name}{' --submit' * read_sweep(folder).slurm}"
        raise UsageError(f"{folder.name} is a sweep", f"resume it with `{command}`")

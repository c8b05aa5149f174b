"""``job.json``: what a SLURM job does, written into the run folder by ``launch submit``, read by whatever runs in it.

It holds no secret and nothing that a shell would read.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ... import slurm as package
from ...data.common import DamagedError, write_json
from ..options import SupervisionOptions

JOB = "job.json"
SCHEMA_VERSION = 1
BATCH_SCRIPT = Path(package.__path__[0], "lockstep.sbatch")
"""The same for every job: what differs is in its two arguments and in the run folder."""


@dataclass(frozen=True)
class JobSpec:
    """One submission."""

    kind: Literal["train", "run"]
    run: str
    """The run's name; its folder is where this file lies."""
    wandb_id: str
    """Minted here, so that every attempt of every job is the same W&B run."""
    nodes: int = 1
    gpus: str | None = None
    """Per node, as given to ``--gpus``; always a number here."""
    cpu: int | None = None
    """CPU processes per node."""
    cores: int | None = None
    """``--cpus-per-task`` of the job, restated to srun and verified on each node; None for the partition's default."""
    program: list[str] = field(default_factory=list)
    """Of ``run``: ``SCRIPT ARGS…`` or ``-m MODULE ARGS…``."""
    folder: str = ""
    """Where the command was given; the program's working directory."""
    base: str = ""
    """Of ``train``: the folder that the config's relative paths start from. The config is ``config.yaml`` beside."""
    supervision: SupervisionOptions = field(default_factory=SupervisionOptions)
    container: dict[str, str] = field(default_factory=dict)
    """``image``, ``mounts``, ``runtime`` (pyxis or apptainer); empty without one."""
    modules: list[str] = field(default_factory=list)
    """Environment modules to load, in order."""
    setup: list[str] = field(default_factory=list)
    """The user's own shell lines, run before the launcher; from their own files only, never made up from fields."""
    env: list[str] = field(default_factory=list)
    """Names of further environment variables that travel with the job; their values are kept nowhere."""
    python: str = ""
    """The absolute path of the Python that the job runs, that of the environment that submitted."""
    how: Literal["requeue", "chain", "none"] = "chain"
    """How a job that was stopped continues; decided at submission from the partition's PreemptMode."""
    max_preemptions: int = 50
    max_crashes: int = 2
    sbatch: list[str] = field(default_factory=list)
    """Options on sbatch's argv, without the script: a chained job is submitted with the very same."""
    origins: dict[str, str] = field(default_factory=dict)
    """Option to where its value came from: ``command line``, ``config``, ``cluster NAME``, ``default``."""

    def batch_script_command(self, folder: Path) -> list[str]:
        """Return the batch script and its arguments, which sbatch gets after its options.

        Args:
            folder: of the run; of an array, the sweep's.
        """
        return [str(BATCH_SCRIPT), self.python or sys.executable, str(folder)]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def write_job(folder: Path, job: JobSpec) -> None:
    """Write ``job.json`` atomically."""
    write_json(folder / JOB, job.to_json())


def read_job(folder: Path) -> JobSpec | None:
    """Read the submission of a run folder; None for a run that was not submitted.

    Raises:
        DamagedError: the file cannot be read.
    """
    path, version = folder / JOB, None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document.pop("schema_version")
        return JobSpec(**{**document, "supervision": SupervisionOptions(**document["supervision"])})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        about = f"{path}: {error!r}, in version {version} of the file (this Lockstep writes {SCHEMA_VERSION})"
        raise DamagedError(about, "submit the run again") from error

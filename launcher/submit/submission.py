"""A submission as a whole, before anything is written or sent: what ``--dry-run`` shows is what sbatch gets."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..slurm import (
    BATCH_SCRIPT,
    FOLDER,
    JOB,
    JobSpec,
    PendingSubmission,
    for_the_job,
    slurm_folder,
    write_job,
)
from .option_layers import JobOptions
from .sbatch_arguments import How, refuse_path, sbatch_options

SETUP = "setup.sh"
_INIT = """\
if ! command -v module >/dev/null 2>&1; then
    for lockstep_init in "${MODULESHOME:-/nowhere}/init/bash" "${LMOD_PKG:-/nowhere}/init/bash" \\
        /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh /etc/profile.d/modules.sh \\
        /usr/share/lmod/lmod/init/bash /usr/share/modules/init/bash; do
        [ -r "$lockstep_init" ] && . "$lockstep_init" && break
    done
fi
"""
_FAILED = "printf 'lockstep: this line of the set-up failed: %s\\n' {} >&2; return 1"


@dataclass(frozen=True)
class Submission:
    """One job that is to be sent."""

    folder: Path
    """The run's; it need not exist yet."""
    job: JobSpec
    setup: str
    """``slurm/setup.sh``; empty where the job needs none."""
    config: str
    """``config.yaml`` of a training; empty for a script."""
    environment: list[str]
    """Names of the variables that travel with the job; their values are kept nowhere."""
    values: dict[str, Any]
    """What each option is, by the names that ``job.origins`` has."""

    @property
    def arguments(self) -> list[str]:
        """Arguments of sbatch: the options, the script, and the script's two arguments."""
        return [*self.job.sbatch, *self.job.batch_script_command(self.folder)]

    @property
    def files(self) -> dict[str, str]:
        """The batch script and the run folder's files, path to text; ``config.yaml`` is that of any run."""
        files = {str(BATCH_SCRIPT): BATCH_SCRIPT.read_text(encoding="utf-8")}
        files[str(self.folder / JOB)] = json.dumps(self.job.to_json(), indent=1) + "\n"
        return files | ({str(self.folder / FOLDER / SETUP): self.setup} if self.setup else {})

    def fill(self) -> None:
        """Write the run folder; ``job.json`` last, with it the folder is a run."""
        folder = slurm_folder(self.folder)
        if self.setup:
            (folder / SETUP).write_text(self.setup, encoding="utf-8")
        else:
            (folder / SETUP).unlink(missing_ok=True)
        if self.config:
            (self.folder / "config.yaml").write_text(self.config, encoding="utf-8")
        write_job(self.folder, self.job)

    def pending(self) -> PendingSubmission:
        """Return its entry for the job log, which is written before and after sending."""
        return PendingSubmission(self.folder, self.folder.name, self.folder, facts={"how": self.job.how})

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``--dry-run --json``."""
        return {
            "sbatch": ["sbatch", *self.arguments],
            "files": self.files,
            "job": self.job.to_json(),
            "environment": self.environment,
            "origins": self.job.origins,
        }


def compose(
    folder: Path,
    options: JobOptions,
    *,
    base: Path | None,
    config: str,
    program: list[str],
    cores: int | None,
    how: How,
    requeue: bool,
) -> Submission:
    """Compose a submission from the options and from what the cluster decides.

    Args:
        folder: the run's.
        options: what was asked for.
        base: of a training: the folder that the config's relative paths start from.
        config: of a training: its text; empty for a script.
        program: of ``launch run``: ``SCRIPT ARGS…`` or ``-m MODULE ARGS…``.
        cores: CPUs of each node; None for the partition's default.
        how: how a stopped job continues.
        requeue: whether SLURM itself puts it back into the queue.

    Raises:
        UsageError: a path is one that SLURM cannot take.
    """
    here = Path.cwd()
    for path, what in ((folder, "a run folder"), (here, "this folder"), (Path(sys.executable), "a Python")):
        refuse_path(path, what)
    job = replace(
        _job(folder.name, options),
        kind="train" if config else "run",
        cores=cores,
        program=program,
        folder=str(here),
        base=str(base or ""),
        how=how,
        sbatch=sbatch_options(folder, options.slurm, cores=cores, requeue=requeue),
    )
    setup = "".join(f"{line}\n" for line in _setup(job))
    values = options.slurm.model_dump(mode="json") | ({"cpus_per_task": cores} if cores else {})
    return Submission(folder, job, setup, config, sorted(for_the_job(os.environ, job.env)), values)


def _job(run: str, options: JobOptions) -> JobSpec:
    """Return the part of a job that follows from the options alone."""
    slurm = options.slurm
    gpus = None if slurm.gpus is None else str(slurm.gpus).rpartition(":")[2]
    return JobSpec(
        kind="train",
        run=run,
        wandb_id=secrets.token_hex(4),
        nodes=slurm.nodes or 1,
        gpus=gpus,
        cpu=slurm.cpu or (1 if gpus is None else None),
        supervision=options.supervision,
        container=_container(options),
        modules=list(slurm.modules or ()),
        setup=list(slurm.setup or ()),
        env=list(slurm.env or ()),
        python=sys.executable,
        max_preemptions=slurm.max_preemptions or 0,
        max_crashes=slurm.max_crashes or 0,
        origins=options.origins,
    )


def _container(options: JobOptions) -> dict[str, str]:
    slurm = options.slurm
    if slurm.container is None:
        return {}
    return {
        "image": slurm.container,
        "mounts": ",".join(slurm.container_mounts or ()),
        "runtime": slurm.container_runtime or ("apptainer" if slurm.container.endswith(".sif") else "pyxis"),
    }


def _setup(job: JobSpec) -> Iterator[str]:
    """Yield the set-up script: modules, then the user's own lines; the first that fails ends the job and is named."""
    if not (job.modules or job.setup):
        return
    yield "# Modules and set-up lines of the user; lockstep.sbatch reads this before it starts the launcher."
    if job.modules:
        yield _INIT.rstrip("\n")
    for line in (*(f"module load {shlex.quote(module)}" for module in job.modules), *job.setup):
        yield line
        yield f"[ $? -eq 0 ] || {{ {_FAILED.format(shlex.quote(line))}; }}"

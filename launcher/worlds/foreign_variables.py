"""Variables that SLURM's tools and other starters leave in an environment, and who must not inherit which of them.

They are options of whatever is started next: ``SLURM_GPUS`` of a surrounding job changes an inner sbatch, the
``SQUEUE_FORMAT`` of a user's profile what squeue prints. And they make a library take itself for a rank of somebody
else's: with ``OMPI_COMM_WORLD_SIZE=4`` Accelerate waits for three others, ten minutes long.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_FAMILIES = ("SLURM", "SLURMD", "SBATCH", "SRUN", "SALLOC", "SQUEUE", "SCANCEL", "PMI", "PMIX")
_OF_PARSED_TOOLS = ("SCONTROL", "SACCT", "SINFO")
_OF_OTHER_STARTERS = (
    "OMPI", "PRTE", "HYDI", "HYDRA", "MV2_COMM_WORLD", "PALS", "ALPS", "JSM_NAMESPACE", "FLUX_TASK", "PET",
    "TORCHELASTIC",
)  # fmt: skip
_ONES_OF_OTHER_STARTERS = ("MPI_LOCALRANKID", "MPI_LOCALNRANKS", "FLUX_JOB_SIZE", "FLUX_JOB_NNODES")
_OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_JWT")  # where SLURM is, and who asks
_OF_THE_JOB = (
    "SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_JOB_NAME", "SLURM_RESTART_COUNT", "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID", "SLURM_CLUSTER_NAME", "SLURM_WORKING_CLUSTER", "SLURM_JOB_PARTITION",
    "SLURM_JOB_ACCOUNT", "SLURM_SUBMIT_DIR", "SLURM_SUBMIT_HOST", "SLURM_TMPDIR", "SLURMD_NODENAME",
)  # fmt: skip
"""Which job this is, and where."""
_OF_THE_CORES = ("SLURM_STEP_ID", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
"""How many cores this process has; ``machine/cpu_limits.py`` reads them."""


def tool_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what SLURM's tools get: nothing of another job, and nothing that changes output which is parsed."""
    return _scrubbed(environment, (*_FAMILIES, *_OF_PARSED_TOOLS), _OF_THE_CLUSTER)


def srun_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the job's own srun gets, which passes all of it on.

    Without SLURM_EXPORT_ENV the job's ``--export=NONE`` would leave the step without PATH.
    """
    scrubbed = _scrubbed(environment, (*_FAMILIES, *_OF_OTHER_STARTERS), _OF_THE_JOB, _ONES_OF_OTHER_STARTERS)
    return {**scrubbed, "SLURM_EXPORT_ENV": "ALL"}


def rank_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what ranks and their supervisors get: the job's identity and their cores, no other starter's world."""
    kept = (*_OF_THE_JOB, *_OF_THE_CORES)
    return _scrubbed(environment, (*_FAMILIES, *_OF_OTHER_STARTERS), kept, _ONES_OF_OTHER_STARTERS)


def _scrubbed(
    environment: Mapping[str, str],
    families: Collection[str],
    kept: Collection[str],
    single: Collection[str] = (),
) -> dict[str, str]:
    foreign = re.compile(rf"({'|'.join(families)})\d?_")  # PMI2_, PMIX4_
    return {
        name: value
        for name, value in environment.items()
        if name in kept or not (name in single or foreign.match(name))
    }

"""One table of readers: what each starter of parallel programs sets for its tasks, as a ``StartedWorld``.

Sources: torch/distributed/run.py and elastic/agent/server/local_elastic_agent.py; kubeflow/trainer, torch.go; the
Kubernetes documentation of Jobs; docs.open-mpi.org, environment-var; what Open MPI 4.1, MPICH 4.0 and SLURM 22.05 were
seen to set; srun(1); flux-core, shell/task.c; the intro_pmi of HPE's PALS; IBM's JSM; pbsdsh(1B).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..options import place_text
from .started_world import MPI_DAEMONS, ForeignWorldError, StartedWorld
from .variables import Variables

_SPECIAL_STEP = 0xFFFF_FFF0
"""SLURM numbers the shell of ``salloc``, a batch script and its own daemons from here on."""


@dataclass(frozen=True)
class _Names:
    """The variables of a starter that tells each task its rank, and how many there are."""

    starter: str
    rank: tuple[str, ...]
    size: tuple[str, ...]
    local_rank: tuple[str, ...] = ()
    local_size: tuple[str, ...] = ()
    node: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    job: tuple[str, ...] = ()
    prefix: str = ""
    """Of the run's name, before the job's."""
    marks: tuple[str, ...] = ()
    """One of these has to be set; by default rank or size."""


_TABLE = (
    _Names(
        "Open MPI",
        ("OMPI_COMM_WORLD_RANK",), ("OMPI_COMM_WORLD_SIZE",),
        ("OMPI_COMM_WORLD_LOCAL_RANK",), ("OMPI_COMM_WORLD_LOCAL_SIZE",),
    ),
    _Names(
        "MVAPICH",
        ("MV2_COMM_WORLD_RANK",), ("MV2_COMM_WORLD_SIZE",),
        ("MV2_COMM_WORLD_LOCAL_RANK",), ("MV2_COMM_WORLD_LOCAL_SIZE",),
    ),
    _Names(
        "PALS",
        ("PALS_RANKID",), ("PMI_SIZE",), ("PALS_LOCAL_RANKID",), ("PALS_LOCAL_SIZE", "PMI_LOCAL_SIZE"),
        node=("PALS_NODEID",), job=("PALS_APID",), prefix="pals-", marks=("PALS_RANKID",),
    ),
    _Names(
        "LSF's jsrun",
        ("JSM_NAMESPACE_RANK",), ("JSM_NAMESPACE_SIZE",),
        ("JSM_NAMESPACE_LOCAL_RANK",), ("JSM_NAMESPACE_LOCAL_SIZE",), job=("LSB_JOBID",), prefix="lsf-",
    ),
    _Names(
        "Flux",
        ("FLUX_TASK_RANK",), ("FLUX_JOB_SIZE",), ("FLUX_TASK_LOCAL_ID",),
        nodes=("FLUX_JOB_NNODES",), job=("FLUX_JOB_ID",), prefix="flux-",
        marks=("FLUX_TASK_RANK", "FLUX_TASK_LOCAL_ID"),
    ),
    _Names(
        "PMI",  # the mpiexec of MPICH and Intel MPI; Flux, SLURM and PALS set it as well
        ("PMI_RANK",), ("PMI_SIZE",), ("MPI_LOCALRANKID", "PMI_LOCAL_RANK"), ("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"),
    ),
)  # fmt: skip


_PMIX = _Names("PMIx", ("PMIX_RANK",), ())
"""It tells no size, and stands beside the variables of whoever speaks it: Open MPI, SLURM, jsrun."""


def read_worlds(environment: Mapping[str, str]) -> list[StartedWorld]:
    """Read every world that the variables of an environment tell of, those of a single task among them.

    Raises:
        ForeignWorldError: a starter's variables make no sense by themselves.
    """
    found = [_read_names(names, environment) for names in _TABLE]
    found += [reader(environment) for reader in _READERS]
    known = [world for world in found if world is not None]
    pmix = None if known else _read_names(_PMIX, environment)
    return known if pmix is None else [pmix]


def _read_names(names: _Names, environment: Mapping[str, str]) -> StartedWorld | None:
    read = Variables(names.starter, environment)
    if not read.text(*(names.marks or (*names.rank, *names.size))):
        return None
    rank, size = read.number(*names.rank), read.number(*names.size)
    if rank is None:
        raise ForeignWorldError(f"{names.starter}: {_shown(read)} without {names.rank[0]}")
    nodes, local_rank = read.number(*names.nodes), read.number(*names.local_rank)
    job = read.text(*names.job)
    return StartedWorld(
        names.starter,
        rank,
        size,
        local_rank,
        read.number(*names.local_size) or _even_share(size, nodes),
        read.number(*names.node),
        nodes,
        job=names.prefix + job if job else "",
        variables=read.seen,
    )


def _shown(read: Variables) -> str:
    return " ".join(f"{name}={value}" for name, value in read.seen.items())


def _even_share(size: int | None, nodes: int | None) -> int | None:
    """Return the number of tasks on each node where they divide evenly."""
    return size // nodes if size and nodes and size % nodes == 0 else None


def _read_torchrun(environment: Mapping[str, str]) -> StartedWorld | None:
    """Read what torchrun tells a worker, and what a user or a Kubernetes PyTorchJob sets by the same names.

    Only torchrun sets LOCAL_RANK. Where its agent holds the store, MASTER_PORT is taken.
    """
    starter = "torchrun" if environment.get("TORCHELASTIC_RUN_ID") else "RANK and WORLD_SIZE"
    read = Variables(starter, environment)
    if not read.text("RANK", "WORLD_SIZE") or _is_pytorch_job(environment):
        return None
    rank, size = read.number("RANK"), read.number("WORLD_SIZE")
    if rank is None or size is None:
        missing = "RANK" if rank is None else "WORLD_SIZE"
        raise ForeignWorldError(f"{_shown(read)} without {missing}")
    job = read.text("TORCHELASTIC_RUN_ID")  # torchrun calls a run without a name "none"
    taken = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return StartedWorld(
        starter,
        rank,
        size,
        read.number("LOCAL_RANK"),
        read.number("LOCAL_WORLD_SIZE"),
        read.number("GROUP_RANK"),
        read.number("GROUP_WORLD_SIZE"),
        rendezvous="" if taken else _place(read, "MASTER_ADDR", "MASTER_PORT"),
        job="" if job in ("", "none") else f"torchrun-{job}",
        variables=read.seen,
    )


def _is_pytorch_job(environment: Mapping[str, str]) -> bool:
    """Tell whether RANK is a pod's, beside PET_*: Kubeflow's PyTorchJob sets it to PET_NODE_RANK."""
    pod = environment.get("PET_NODE_RANK")
    return pod is not None and pod == environment.get("RANK") and "LOCAL_RANK" not in environment


def _place(read: Variables, host: str, port: str) -> str:
    where = read.text(host), read.text(port)
    return place_text(*where) if all(where) and where[1] != "0" else ""


def _read_pet(environment: Mapping[str, str]) -> StartedWorld | None:
    """Read what is set for a torchrun that would be started here: in a pod of a TrainJob or a PyTorchJob."""
    read = Variables("PET_*", environment)
    if not read.text("PET_NNODES", "PET_NODE_RANK"):
        return None
    least, _, most = read.text("PET_NNODES").partition(":")
    if most not in ("", least):
        raise ForeignWorldError(
            f"PET_NNODES={least}:{most}: a number of nodes that may change", "give one number"
        )
    read = Variables("PET_*", {**environment, "PET_NNODES": least})
    nodes, node = read.number("PET_NNODES"), read.number("PET_NODE_RANK")
    if nodes == 1 and node is None:
        node = 0
    if nodes is None or node is None:
        missing = "PET_NNODES" if nodes is None else "PET_NODE_RANK"
        raise ForeignWorldError(f"{_shown(read)} without {missing}")
    each = read.text("PET_NPROC_PER_NODE")
    device = each if each in ("cpu", "gpu") else ""
    processes = None if each in ("", "auto", "cpu", "gpu") else read.number("PET_NPROC_PER_NODE")
    place = _place(read, "PET_MASTER_ADDR", "PET_MASTER_PORT") if nodes > 1 else ""
    job = _job_of_pod(environment, node)
    return StartedWorld(
        "PET_*", node, nodes, 0, 1, node, nodes, processes, device, place, job, variables=read.seen
    )


def _read_indexed_job(environment: Mapping[str, str]) -> StartedWorld | None:
    """Read a pod's index in a Kubernetes Indexed Job; none of them knows the number of pods."""
    read = Variables("a Kubernetes Indexed Job", environment)
    index = read.number("JOB_COMPLETION_INDEX")
    if index is None:
        return None
    job = _job_of_pod(environment, index)
    return StartedWorld(read.starter, index, None, 0, 1, index, job=job, variables=read.seen)


def _job_of_pod(environment: Mapping[str, str], index: int) -> str:
    """Return the Job's name, which a pod's host name has before its index."""
    host, end = environment.get("HOSTNAME", ""), f"-{index}"
    return host.removesuffix(end) if "JOB_COMPLETION_INDEX" in environment and host.endswith(end) else ""


def _read_slurm_step(environment: Mapping[str, str]) -> StartedWorld | None:
    """Read a task of srun's. A batch script and the shell of ``salloc`` are one process, whatever SLURM_NTASKS says."""
    read = Variables("a SLURM step", environment)
    rank, step = read.number("SLURM_PROCID"), read.number("SLURM_STEP_ID", "SLURM_STEPID")
    if rank is None or (step is None and rank == 0) or (step is not None and step >= _SPECIAL_STEP):
        return None
    here = [part for part in environment.get("SLURM_GTIDS", "").split(",") if part]
    nodes, size = read.number("SLURM_STEP_NUM_NODES"), read.number("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    job = read.text("SLURM_JOB_ID", "SLURM_JOBID")
    return StartedWorld(
        read.starter,
        rank,
        size,
        read.number("SLURM_LOCALID"),
        len(here) or _even_share(size, nodes),
        read.number("SLURM_NODEID"),
        nodes,
        job=f"slurm-{job}.{step}" if job else "",
        variables=read.seen,
        bootstraps_mpi=environment.get("SLURM_JOB_NAME", "") in MPI_DAEMONS,
    )


def _read_pbs(environment: Mapping[str, str]) -> StartedWorld | None:
    """Read a task of pbsdsh's; the job's own script has PBS_TASKNUM 1, and is one process."""
    read = Variables("PBS's pbsdsh", environment)
    task = read.number("PBS_TASKNUM")
    if task is None or task <= 1:
        return None
    node, file = read.number("PBS_NODENUM"), read.text("PBS_NODEFILE")
    if node is None or not file:
        raise ForeignWorldError(f"{_shown(read)} without {'PBS_NODENUM' if node is None else 'PBS_NODEFILE'}")
    try:
        slots = Path(file).read_text(encoding="utf-8").split()
    except OSError as error:
        raise ForeignWorldError(f"{_shown(read)}: {file}: {error.strerror}") from error
    hosts = len(set(slots))
    if len(slots) != hosts:
        raise ForeignWorldError(
            f"{_shown(read)}: {len(slots)} slots on {hosts} hosts do not tell how many tasks there are",
            "ask PBS for one chunk per host (select=N:mpiprocs=1)",
        )
    job = f"pbs-{name}" if (name := read.text("PBS_JOBID")) else ""
    return StartedWorld(read.starter, node, hosts, 0, 1, node, hosts, job=job, variables=read.seen)


_READERS: tuple[Callable[[Mapping[str, str]], StartedWorld | None], ...] = (
    _read_torchrun,
    _read_pet,
    _read_indexed_job,
    _read_slurm_step,
    _read_pbs,
)

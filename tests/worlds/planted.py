"""The environments that starters give to their tasks, as they were seen or are documented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Environment = dict[str, str]


@dataclass(frozen=True)
class Place:
    """One task of a started world whose machines have equally many."""

    nodes: int
    per_node: int
    node: int = 0
    local: int = 0

    @property
    def size(self) -> int:
        return self.nodes * self.per_node

    @property
    def rank(self) -> int:
        return self.node * self.per_node + self.local

    def every(self) -> list[Place]:
        """All tasks of this world."""
        return [
            Place(self.nodes, self.per_node, node, local)
            for node in range(self.nodes)
            for local in range(self.per_node)
        ]


SHAPES = [Place(nodes, per_node) for nodes in (1, 2) for per_node in (1, 2)]


def torchrun(at: Place) -> Environment:
    return {
        "RANK": f"{at.rank}", "WORLD_SIZE": f"{at.size}", "LOCAL_RANK": f"{at.local}",
        "LOCAL_WORLD_SIZE": f"{at.per_node}", "GROUP_RANK": f"{at.node}", "GROUP_WORLD_SIZE": f"{at.nodes}",
        "ROLE_RANK": f"{at.rank}", "ROLE_WORLD_SIZE": f"{at.size}", "MASTER_ADDR": "node0",
        "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0",
    }  # fmt: skip


def open_mpi(at: Place) -> Environment:
    return {
        "OMPI_COMM_WORLD_RANK": f"{at.rank}", "OMPI_COMM_WORLD_SIZE": f"{at.size}",
        "OMPI_COMM_WORLD_LOCAL_RANK": f"{at.local}", "OMPI_COMM_WORLD_LOCAL_SIZE": f"{at.per_node}",
        "OMPI_COMM_WORLD_NODE_RANK": f"{at.local}", "OMPI_UNIVERSE_SIZE": "8",
        "PMIX_RANK": f"{at.rank}", "PMIX_NAMESPACE": "1807286273",
    }  # fmt: skip


def mpich(at: Place) -> Environment:
    return {
        "PMI_RANK": f"{at.rank}", "PMI_SIZE": f"{at.size}", "MPI_LOCALRANKID": f"{at.local}",
        "MPI_LOCALNRANKS": f"{at.per_node}", "HYDI_CONTROL_FD": "7",
    }  # fmt: skip


def intel_mpi(at: Place) -> Environment:
    return {**mpich(at), "I_MPI_ROOT": "/opt/intel/mpi", "I_MPI_HYDRA_BOOTSTRAP": "ssh"}


def mvapich(at: Place) -> Environment:
    return {
        "MV2_COMM_WORLD_RANK": f"{at.rank}", "MV2_COMM_WORLD_SIZE": f"{at.size}",
        "MV2_COMM_WORLD_LOCAL_RANK": f"{at.local}", "MV2_COMM_WORLD_LOCAL_SIZE": f"{at.per_node}",
    }  # fmt: skip


def pals(at: Place) -> Environment:
    return {
        "PALS_RANKID": f"{at.rank}", "PALS_LOCAL_RANKID": f"{at.local}", "PALS_LOCAL_SIZE": f"{at.per_node}",
        "PALS_NODEID": f"{at.node}", "PALS_APID": "4f0c-77", "PMI_RANK": f"{at.rank}",
        "PMI_SIZE": f"{at.size}", "PMI_LOCAL_RANK": f"{at.local}", "PMI_LOCAL_SIZE": f"{at.per_node}",
    }  # fmt: skip


def jsrun(at: Place) -> Environment:
    return {
        "JSM_NAMESPACE_RANK": f"{at.rank}", "JSM_NAMESPACE_SIZE": f"{at.size}",
        "JSM_NAMESPACE_LOCAL_RANK": f"{at.local}", "JSM_NAMESPACE_LOCAL_SIZE": f"{at.per_node}",
        "LSB_JOBID": "8812", **{k: v for k, v in open_mpi(at).items() if k.startswith("OMPI")},
    }  # fmt: skip


def flux(at: Place) -> Environment:
    return {
        "FLUX_TASK_RANK": f"{at.rank}", "FLUX_TASK_LOCAL_ID": f"{at.local}", "FLUX_JOB_SIZE": f"{at.size}",
        "FLUX_JOB_NNODES": f"{at.nodes}", "FLUX_JOB_ID": "77309411328", "FLUX_URI": "local:///run/flux",
        "PMI_RANK": f"{at.rank}", "PMI_SIZE": f"{at.size}",
    }  # fmt: skip


def slurm(at: Place) -> Environment:
    here = ",".join(f"{at.node * at.per_node + local}" for local in range(at.per_node))
    return {
        "SLURM_JOB_ID": "31", "SLURM_JOBID": "31", "SLURM_STEP_ID": "0", "SLURM_STEPID": "0",
        "SLURM_PROCID": f"{at.rank}", "SLURM_NTASKS": f"{at.size}", "SLURM_NPROCS": f"{at.size}",
        "SLURM_STEP_NUM_TASKS": f"{at.size}", "SLURM_STEP_NUM_NODES": f"{at.nodes}",
        "SLURM_LOCALID": f"{at.local}", "SLURM_NODEID": f"{at.node}", "SLURM_GTIDS": here,
        "SLURM_JOB_NAME": "launch", "SLURM_NNODES": f"{at.nodes}",
    }  # fmt: skip


def slurm_pmi2(at: Place) -> Environment:
    return {**slurm(at), "PMI_RANK": f"{at.rank}", "PMI_SIZE": f"{at.size}", "PMI_JOBID": "31.0"}


def train_job(at: Place) -> Environment:
    """A pod of Kubeflow's TrainJob: one task, which is to start ``per_node`` processes."""
    return {
        "PET_NNODES": f"{at.nodes}", "PET_NPROC_PER_NODE": f"{at.per_node}", "PET_NODE_RANK": f"{at.node}",
        "PET_MASTER_ADDR": "job-node-0-0.job", "PET_MASTER_PORT": "29500",
        "JOB_COMPLETION_INDEX": f"{at.node}", "HOSTNAME": f"job-node-0-{at.node}",
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    }  # fmt: skip


def pytorch_job(at: Place) -> Environment:
    """A pod of Kubeflow's PyTorchJob, which sets RANK to the pod's number."""
    return {
        "PET_NNODES": f"{at.nodes}", "PET_NPROC_PER_NODE": f"{at.per_node}", "PET_NODE_RANK": f"{at.node}",
        "RANK": f"{at.node}", "WORLD_SIZE": f"{at.size}", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456",
        "PET_MASTER_ADDR": "job-master-0", "PET_MASTER_PORT": "23456",
    }  # fmt: skip


STARTERS: dict[str, Callable[[Place], Environment]] = {
    "torchrun": torchrun,
    "Open MPI": open_mpi,
    "MPICH": mpich,
    "Intel MPI": intel_mpi,
    "MVAPICH": mvapich,
    "PALS": pals,
    "jsrun": jsrun,
    "Flux": flux,
    "srun": slurm,
    "srun --mpi=pmi2": slurm_pmi2,
}
"""Those that start every task; the others start one for each node."""
POD_STARTERS: dict[str, Callable[[Place], Environment]] = {"TrainJob": train_job, "PyTorchJob": pytorch_job}


def indexed_job(at: Place) -> Environment:
    """A pod of a Kubernetes Indexed Job, which does not know how many there are."""
    return {
        "JOB_COMPLETION_INDEX": f"{at.node}", "HOSTNAME": f"digits-{at.node}",
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    }  # fmt: skip


def pbsdsh(at: Place, nodefile: Path) -> Environment:
    nodefile.write_text("".join(f"host{node}\n" for node in range(at.nodes)))
    return {
        "PBS_JOBID": "12.server", "PBS_NODENUM": f"{at.node}", "PBS_TASKNUM": f"{at.node + 2}",
        "PBS_NODEFILE": str(nodefile),
    }  # fmt: skip


def inside_step_of_daemons(environment: Environment, at: Place, daemon: str) -> Environment:
    """``mpirun`` in a SLURM job: srun has started one of its daemons on each node."""
    step = slurm(Place(at.nodes, 1, at.node, 0))
    return {**step, "SLURM_JOB_NAME": daemon, **environment}

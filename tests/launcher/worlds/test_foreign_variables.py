"""What of a surrounding job reaches SLURM's tools, srun, and the ranks and their supervisors."""

from __future__ import annotations

from lockstep.launcher.worlds.foreign_variables import rank_environment, srun_environment, tool_environment

OF_OTHER_STARTERS = {
    "OMPI_X": "1", "OMPI_COMM_WORLD_SIZE": "4", "PRTE_MCA_x": "1", "PALS_RANKID": "1", "ALPS_APP_PE": "1",
    "PET_NNODES": "2", "TORCHELASTIC_RUN_ID": "a", "MV2_COMM_WORLD_SIZE": "2", "JSM_NAMESPACE_SIZE": "2",
    "HYDI_CONTROL_FD": "7", "FLUX_TASK_RANK": "1", "FLUX_JOB_SIZE": "2", "FLUX_JOB_NNODES": "1",
    "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2",
}  # fmt: skip
OWN = {"FLUX_JOB_ID": "f", "FLUX_URI": "local://f", "OMP_NUM_THREADS": "4", "PETS": "1", "I_MPI_ROOT": "/i"}
AROUND = {
    "PATH": "/bin", "SLURMISH": "1", "SLURM_CONF": "/c", "SLURM_JWT": "token",
    "SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURMD_NODENAME": "n1", "SLURM_CPUS_ON_NODE": "8",
    "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_GPUS": "8",
    "SBATCH_PARTITION": "x", "SRUN_CPUS_PER_TASK": "2",
    "SALLOC_ACCOUNT": "a", "SQUEUE_FORMAT": "f", "SCANCEL_USER": "u", "PMI_RANK": "1", "PMI2_X": "1",
    "PMIX_RANK": "1", "SCONTROL_ALL": "1", "SACCT_FORMAT": "f", "SINFO_FORMAT": "f",
    **OF_OTHER_STARTERS, **OWN,
}  # fmt: skip
NEUTRAL = {"PATH", "SLURMISH", "SLURM_CONF", *OWN}
JOB = {"SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURMD_NODENAME"}
OPTIONS_OF_TOOLS = {"SCONTROL_ALL", "SACCT_FORMAT", "SINFO_FORMAT"}


def test_tools_see_no_job_and_no_option_of_theirs() -> None:
    assert tool_environment(AROUND).keys() == NEUTRAL | {"SLURM_JWT"} | OF_OTHER_STARTERS.keys()


def test_srun_sees_its_job_alone_and_hands_everything_on() -> None:
    seen = srun_environment(AROUND)
    assert seen.keys() == NEUTRAL | JOB | OPTIONS_OF_TOOLS | {"SLURM_EXPORT_ENV"}
    assert seen["SLURM_EXPORT_ENV"] == "ALL"


def test_ranks_and_their_supervisors_see_their_job_and_their_cores_and_no_world_of_another_starter() -> None:
    cores = {"SLURM_CPUS_ON_NODE", "SLURM_STEP_ID"}
    assert rank_environment(AROUND).keys() == NEUTRAL | JOB | OPTIONS_OF_TOOLS | cores

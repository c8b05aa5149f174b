"""What of a surrounding job reaches SLURM's tools, srun and the processes of a step."""

from __future__ import annotations

from lockstep.launcher.slurm.foreign_variables import srun_environment, step_environment, tool_environment

AROUND = {
    "PATH": "/bin", "OMP_NUM_THREADS": "4", "SLURMISH": "1", "SLURM_CONF": "/c", "SLURM_JWT": "token",
    "SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURMD_NODENAME": "n1", "SLURM_CPUS_ON_NODE": "8",
    "SLURM_STEP_ID": "0", "SLURM_GPUS": "8", "SBATCH_PARTITION": "x", "SRUN_CPUS_PER_TASK": "2",
    "SALLOC_ACCOUNT": "a", "SQUEUE_FORMAT": "f", "SCANCEL_USER": "u", "PMI_RANK": "1", "PMI2_X": "1",
    "PMIX_RANK": "1", "SCONTROL_ALL": "1", "SACCT_FORMAT": "f", "SINFO_FORMAT": "f", "OMPI_X": "1",
    "PALS_RANKID": "1", "ALPS_APP_PE": "1",
}  # fmt: skip
NEUTRAL = {"PATH", "OMP_NUM_THREADS", "SLURMISH", "SLURM_CONF"}
JOB = {"SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURMD_NODENAME"}
OPTIONS_OF_TOOLS = {"SCONTROL_ALL", "SACCT_FORMAT", "SINFO_FORMAT"}


def test_tools_see_no_job_and_no_option_of_theirs() -> None:
    assert tool_environment(AROUND).keys() == NEUTRAL | {"SLURM_JWT", "OMPI_X", "PALS_RANKID", "ALPS_APP_PE"}


def test_srun_sees_its_job_alone_and_hands_everything_on() -> None:
    seen = srun_environment(AROUND)
    assert seen.keys() == NEUTRAL | JOB | OPTIONS_OF_TOOLS | {"SLURM_EXPORT_ENV"}
    assert seen["SLURM_EXPORT_ENV"] == "ALL"


def test_a_step_sees_its_job_and_its_cores() -> None:
    cores = {"SLURM_CPUS_ON_NODE", "SLURM_STEP_ID"}
    assert step_environment(AROUND).keys() == NEUTRAL | JOB | OPTIONS_OF_TOOLS | cores

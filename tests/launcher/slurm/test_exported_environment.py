"""Which environment variables a job gets."""

from __future__ import annotations

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.slurm.exported_environment import for_the_job
from tests.helpers.slurm.job_options import options_of

SECRETS = (
    "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_TOKEN", "HF_HUB_TOKEN", "GITHUB_TOKEN", "DB_PASSWORD",
    "NCCL_SECRET", "LC_TOKEN", "WANDB_PASSWORD", "TORCH_AUTH", "LOCKSTEP_TOKEN",
)  # fmt: skip


def test_no_secret_travels_and_nothing_of_a_surrounding_job_does():
    around = {
        "SLURM_CPU_BIND": "none",
        "SLURM_GPUS": "8",
        "SBATCH_PARTITION": "x",
        "SLURM_JOB_ID": "3",
        "SRUN_CPUS_PER_TASK": "1",
    }
    wanted = {
        "PATH": "/bin",
        "HOME": "/h",
        "LC_ALL": "C",
        "NCCL_DEBUG": "INFO",
        "WANDB_MODE": "offline",
        "LOCKSTEP_DATA": "/d",
    }
    proxies = {"https_proxy": "http://me:canary@proxy:3128", "http_proxy": "http://proxy:3128"}
    environment = {
        **dict.fromkeys(SECRETS, "canary"),
        **around,
        **wanted,
        **proxies,
        "MINE": "1",
        "OTHER": "2",
    }
    assert for_the_job(environment, ["MINE"]) == wanted | {"MINE": "1", "http_proxy": "http://proxy:3128"}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_not_even_let_through_by_name(name):
    with pytest.raises(UsageError, match="looks like a secret"):
        options_of(env=[name])

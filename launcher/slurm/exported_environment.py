"""Which environment variables travel with a job: chosen by name, and never a secret.

sbatch stores the environment that it sees, with the script, where the site's administrators and backups read it.
So it sees only these, and ``--export=ALL`` passes all of them: a list of names in ``--export`` would make SLURM
load the login environment as well, and set ``SLURM_EXPORT_ENV`` so that srun hands nothing on. What a job reads
from ``~/.netrc`` or a file of its user's, such as the key of W&B, is read on the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .secrets import has_credentials_in_url, is_secret_name

_NAMES = frozenset(
    (
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
        "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONHASHSEED",
        "PYTHONNOUSERSITE", "MODULEPATH", "MODULESHOME", "LOADEDMODULES", "_LMFILES_", "BASH_ENV",
        "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "http_proxy", "https_proxy", "no_proxy",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
        "CUDA_HOME", "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_LAUNCH_BLOCKING", "TRITON_CACHE_DIR", "MPLCONFIGDIR",
        "LOCKSTEP_CACHE", "LOCKSTEP_DATA", "LOCKSTEP_LOCKS", "LOCKSTEP_RUNS",
    )
)  # fmt: skip
_FAMILIES = (
    "LC_", "LMOD_", "_ModuleTable", "__LMOD_REF_COUNT_", "WANDB_", "HF_", "TORCH_", "PYTORCH_", "TORCHINDUCTOR_",
    "NCCL_", "GLOO_", "OMP_", "MKL_", "OPENBLAS_", "UCX_", "FI_",
)  # fmt: skip
_OF_ONE_PROCESS = frozenset(("WANDB_SERVICE", "WANDB_RUN_ID", "WANDB_SWEEP_ID"))
"""Names that would make a job take itself for a part of what submitted it."""


def for_the_job(environment: Mapping[str, str], extra_variables: Iterable[str] = ()) -> dict[str, str]:
    """Return the part of ``environment`` that travels with a job.

    Args:
        environment: of the submitting process.
        extra_variables: names that the user wants to travel, too.
    """
    chosen = _chosen(environment, extra_variables)
    return {name: value for name, value in chosen.items() if not has_credentials_in_url(name, value)}


def withheld_variables(environment: Mapping[str, str], extra_variables: Iterable[str] = ()) -> list[str]:
    """Return the names of variables that are held back only because an address in them has a user part."""
    return [
        name
        for name, value in _chosen(environment, extra_variables).items()
        if has_credentials_in_url(name, value)
    ]


def _chosen(environment: Mapping[str, str], extra_variables: Iterable[str]) -> dict[str, str]:
    """Choose variables by their names alone."""
    wanted = frozenset(extra_variables)
    return {
        name: value
        for name, value in environment.items()
        if (name in wanted or name in _NAMES or name.startswith(_FAMILIES))
        and name not in _OF_ONE_PROCESS
        and not is_secret_name(name)
    }

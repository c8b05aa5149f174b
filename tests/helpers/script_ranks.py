"""Scripts for ``launch run``, and how its ranks' environment differs from torchrun's."""

from __future__ import annotations

from pathlib import Path

ADDED_VARIABLES = {  # what our ranks' environment has beyond torchrun's
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "GLOO_SOCKET_IFNAME",
    "NCCL_SOCKET_IFNAME",
    "LOCKSTEP_RUN_MARK",
    "LOCKSTEP_CPUS",
    "CUDA_DEVICE_ORDER",
}

DIFFERENT_VARIABLES = {"MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_ERROR_FILE", "_"}


def write_script(folder: Path, name: str, text: str) -> Path:
    """A file of this text, with the folders that it needs."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path

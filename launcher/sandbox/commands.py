"""What ``launch slurm-sandbox`` does and says."""

from __future__ import annotations

import os

from ...data.common import UsageError
from ..console import print_messages, print_results
from ..slurm import read_record, sandbox_folder
from . import start as sandbox
from .slurm_conf import GPUS, NODES, cpus_per_node

_JOBS_SECONDS = 10.0


def up() -> int:
    """Start it; stdout is a line for the shell: ``eval "$(launch slurm-sandbox up)"``."""
    folder = sandbox_folder()
    record = sandbox.up(folder, uid=int(os.environ.get("SUDO_UID") or os.getuid()))
    each = f"{cpus_per_node()} CPUs and {GPUS} make-believe GPUs each"
    print_messages(
        [
            f"SLURM is up: partitions low (default), high and cancel; {' and '.join(NODES)} of {each}",
            f"submit:    launch submit …  (for sbatch and the like: export SLURM_CONF={record.conf})",
            "take down: launch slurm-sandbox down",
        ]
    )
    print_results([f"export SLURM_CONF={record.conf}"])
    return 0


def down() -> int:
    """End it, or what is left of it."""
    folder = sandbox_folder()
    there = sandbox.down(folder, patience=_JOBS_SECONDS)
    print_messages([f"SLURM's sandbox in {folder} is gone" if there else "no sandbox is up"])
    return 0


def status() -> int:
    """Print its folder and the state of its nodes."""
    folder = sandbox_folder()
    if not sandbox.is_up(folder):
        left = (folder / sandbox.LOCK).is_file()
        how = (
            "what is left of one is removed by `launch slurm-sandbox down`" if left else "start one with `up`"
        )
        raise UsageError(f"no sandbox is up in {folder}", how)
    record = read_record(folder)
    missing = [] if record is None else sorted(set(record.daemons) - record.living().keys())
    print_results(
        [f"up in {folder}", *(f"{node} {state}" for node, state in sandbox.node_states(folder).items())]
    )
    print_messages(f"{name} does not run" for name in missing)
    return 0

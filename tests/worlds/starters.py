"""The starters of parallel programs that are really there: torchrun, Open MPI, MPICH, and SLURM's sandbox."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.helpers.launch import WATCHDOG, Result
from tests.helpers.slurm.cluster import Cluster

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python", "--nproc-per-node"]
COMMANDS = {
    "torchrun": TORCHRUN,
    "Open MPI": ["mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "-n"],
    "MPICH": ["mpiexec.hydra", "-n"],
}
"""Each is followed by the number of tasks."""
IN_A_JOB = {
    "srun": "srun -n{tasks} --ntasks-per-node={each}",
    "srun --mpi=pmi2": "srun --mpi=pmi2 -n{tasks} --ntasks-per-node={each}",
    "Open MPI": "mpirun.openmpi --allow-run-as-root --oversubscribe -n {tasks} --npernode {each}",
    "MPICH": "mpiexec.hydra -n {tasks} -ppn {each}",
}
"""What a batch script of two nodes calls."""
_PACKAGES = {"mpirun.openmpi": "openmpi-bin", "mpiexec.hydra": "mpich"}


def starter(name: str, tasks: int) -> list[str]:
    """The beginning of a command that starts its rest ``tasks`` times on this machine."""
    program, *rest = COMMANDS[name]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing: apt-get install {_PACKAGES[program]}")
    return [program, *rest, str(tasks)]


def started(name: str, tasks: int, *command: str, env: Mapping[str, str] | None = None) -> Result:
    """Start a command so, and wait for its end; only what was asked for is in its environment."""
    done = subprocess.run(
        [*starter(name, tasks), *command],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def environments(name: str, tasks: int, folder: Path) -> list[dict[str, str]]:
    """The environments that a starter gave to its tasks, which have ended meanwhile."""
    program = (
        "import json, os, sys; open(f'{sys.argv[1]}/{os.getpid()}', 'w').write(json.dumps(dict(os.environ)))"
    )
    folder.mkdir()
    result = started(name, tasks, sys.executable, "-c", program, str(folder))
    assert result.status == 0, result.err
    return [json.loads(path.read_text()) for path in folder.iterdir()]


def in_a_job(cluster: Cluster, name: str, each: int, *command: str, seconds: float = WATCHDOG) -> str:
    """Start a command in a job of two nodes with ``each`` tasks on each; what the job wrote, after it has ended."""
    starting = IN_A_JOB[name].format(tasks=2 * each, each=each)
    if shutil.which(starting.split()[0]) is None:
        pytest.skip(f"{starting.split()[0]} is missing: apt-get install {_PACKAGES[starting.split()[0]]}")
    job = cluster.sbatch(f"{starting} {shlex.join(command)}; echo status $?", "-N2", f"-n{2 * each}")
    cluster.wait_for(job, seconds=seconds)
    return cluster.log(job)

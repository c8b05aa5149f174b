"""The real command in planted worlds: refused at once by each task, or trained alone where that was asked for."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.helpers.launch import LAUNCH, Launch, outcome_of, run_command, runs_folder
from tests.worlds import planted
from tests.worlds.planted import STARTERS, Environment, Place

LONGEST_WAIT = 60.0  # seconds; a watchdog: what is not refused at once waits for ten minutes
REFUSED = {
    "half there": {"OMPI_COMM_WORLD_SIZE": "4"},
    "no run in common": planted.mpich(Place(1, 2, 0, 1)),
    "no number of pods": planted.indexed_job(Place(2, 1, 1)),
    "two worlds": {**planted.open_mpi(Place(1, 4, 0, 2)), **planted.slurm(Place(1, 1))},
}
NAMED = ("PALS", "jsrun", "Flux", "srun", "srun --mpi=pmi2")  # their job's number names the run
STARTED_ONCE = ("eval nothing", "check", "sweep digits train.seed=1,2", "submit digits")


@pytest.mark.parametrize("what", REFUSED)
def test_a_world_that_cannot_be_taken_over_is_refused_at_once(launch: Launch, what: str) -> None:
    began = time.monotonic()
    result = launch("train", "--cpu", "1", env=REFUSED[what])
    assert time.monotonic() - began < LONGEST_WAIT
    assert result.status == 2
    assert "--ignore-world" in result.err
    assert next(iter(REFUSED[what])) in result.err
    assert not runs_folder().exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", [*STARTED_ONCE, "resume nothing --cpu 1", "run x.py"])
@pytest.mark.parametrize("starter", STARTERS)
def test_every_command_of_which_copies_would_harm_is_refused(
    launch: Launch, command: str, starter: str
) -> None:
    _refused_in_each_task(launch, command, STARTERS[starter])


@pytest.mark.exhaustive
@pytest.mark.parametrize("starter", [name for name in STARTERS if name not in NAMED])
def test_a_training_without_a_name_is_refused_where_the_starter_gives_the_tasks_none(
    launch: Launch, starter: str
) -> None:
    _refused_in_each_task(launch, "train", STARTERS[starter])


def test_a_command_that_is_started_once_is_refused_in_each_task(launch: Launch) -> None:
    _refused_in_each_task(launch, "eval nothing", planted.open_mpi)


def _refused_in_each_task(launch: Launch, command: str, starter: object) -> None:
    for at in Place(1, 2).every():
        environment: Environment = {**starter(at), "SLURM_JOB_ID": ""}  # type: ignore[operator]
        began = time.monotonic()
        result = launch(*command.split(), env=environment)
        assert result.status == 2, result.err
        assert time.monotonic() - began < LONGEST_WAIT


def test_what_another_starter_has_left_reaches_no_rank(launch: Launch, own: Path) -> None:
    """Accelerate would wait for the others, ten minutes long."""
    around = {
        "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1", "PMI_SIZE": "2", "PMI_RANK": "1",
        "MV2_COMM_WORLD_SIZE": "3", "SLURM_NTASKS": "4", "PET_NNODES": "2", "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_USE_DEEPSPEED": "true", "RANK": "3", "WORLD_SIZE": "8",
    }  # fmt: skip
    result = launch("train", str(own / "own.yaml"), "--cpu", "1", "--name", "a", "--ignore-world", env=around)
    assert result.status == 0, result.err
    assert outcome_of("a")["world_size"] == 1
    program = own / "seen.py"
    program.write_text("import os\nprint(sorted(os.environ))\n")
    done = run_command(
        [*LAUNCH, "run", "--ignore-world", str(program)], env={**os.environ, **around}, cwd=own
    )
    assert done.returncode == 0, done.stderr
    for name in around.keys() - {"RANK", "WORLD_SIZE"}:
        assert (f"'{name}'" in done.stdout) == name.startswith("ACCELERATE"), name  # a script's own settings

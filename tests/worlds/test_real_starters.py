"""The real starters: right worlds train what one launch trains, all others are refused by every task.

The sandbox of SLURM gives two nodes, and mpirun and mpiexec start their daemons there by srun, as on a cluster.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.launch import LAUNCH, Launch, outcome_of, run_command, runs_folder
from tests.helpers.run_records import DIGESTS
from tests.worlds.starters import COMMANDS, environments, started

ALL = pytest.mark.exhaustive
REAL = [pytest.param(name, marks=() if name == "MPICH" else ALL) for name in COMMANDS]


def equal_to_one_launch(launch: Launch, own: Path, tasks: int) -> None:
    """The run ``many`` is that of a single launch of as many processes."""
    assert launch("train", str(own / "own.yaml"), "--cpu", str(tasks), "--name", "one").status == 0
    one, many = outcome_of("one"), outcome_of("many")
    for key in (*DIGESTS, "ranks", "world_size"):
        assert many[key] == one[key], key


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", REAL)
def test_tasks_on_one_machine_are_one_world(launch: Launch, own: Path, name: str) -> None:
    result = started(name, 2, *LAUNCH, "train", str(own / "own.yaml"), "--name", "many")
    assert result.status == 0, result.err
    assert "started 2 tasks" in result.err
    equal_to_one_launch(launch, own, 2)


@ALL
@pytest.mark.parametrize("name", COMMANDS)
def test_a_script_sees_the_numbers_of_its_machine(name: str, tmp_path: Path) -> None:
    program = tmp_path / "numbers.py"
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
    program.write_text(
        "import os, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        f"print('numbers', *[os.environ[name] for name in {names}], flush=True)\n"
        "dist.barrier()\n"  # else one that is quick leaves while others still connect to it
        "dist.destroy_process_group()\n"
    )
    result = started(name, 3, *LAUNCH, "run", "--name", "many", str(program))
    assert result.status == 0, result.err
    lines = (result.out + result.err).splitlines()
    said = sorted(line.partition("numbers ")[2] for line in lines if "numbers " in line)
    assert said == [f"{rank} 3 {rank} 3 0 1" for rank in range(3)]


@ALL
@pytest.mark.parametrize("name", COMMANDS)
def test_a_world_of_one_task_is_an_ordinary_launch(name: str, tmp_path: Path) -> None:
    program = tmp_path / "numbers.py"
    program.write_text("import os\nprint('size', os.environ['WORLD_SIZE'])\n")
    result = started(name, 1, *LAUNCH, "run", "--cpu", "2", str(program))
    assert (result.status, result.out.strip()) == (0, "size 2"), result.err


def refused_by_all(status: int, err: str, tasks: int) -> None:
    assert status != 0, err
    assert err.count("--ignore-world") == tasks, err
    assert not runs_folder().exists()


@pytest.mark.parametrize("name", REAL)
def test_variables_of_a_start_that_is_over_are_refused(name: str, tmp_path: Path) -> None:
    for environment in environments(name, 2, tmp_path / "seen"):
        done = run_command([*LAUNCH, "train", "--name", "many"], env={**os.environ, **environment})
        assert "that is over" in done.stderr
        refused_by_all(done.returncode, done.stderr, 1)


@ALL
@pytest.mark.parametrize("outer", COMMANDS)
@pytest.mark.parametrize("inner", COMMANDS)
def test_a_world_of_one_in_each_task_of_another_is_refused(outer: str, inner: str) -> None:
    if outer == inner:
        pytest.skip("the inner one replaces the outer one's variables")
    program, *rest = COMMANDS[inner]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing")
    result = started(outer, 2, program, *rest, "1", *LAUNCH, "train", "--name", "many")
    assert result.status != 0
    assert "contradict each other" in result.err
    assert not runs_folder().exists()


@ALL
@pytest.mark.parametrize("options", [("--nodes", "5"), ("--cpu", "2"), ("--node-rank", "7")], ids=" ".join)
@pytest.mark.parametrize("name", COMMANDS)
def test_what_was_asked_beside_it_has_to_fit(name: str, options: tuple[str, str]) -> None:
    result = started(name, 2, *LAUNCH, "train", "--name", "many", *options)
    assert result.status != 0
    assert f"leave {options[0]} out" in result.err
    left = {path.name for path in runs_folder().glob("*")}
    assert left <= {".many.refused"}  # by which task 0 tells the others


@ALL
@pytest.mark.parametrize("name", COMMANDS)
def test_all_tasks_end_when_task_0_refuses_the_run(name: str, launch: Launch, own: Path) -> None:
    """None waits for a task 0 that has ended: the name is taken."""
    assert launch("run", "--name", "many", "-m", "this").status == 0
    result = started(name, 2, *LAUNCH, "run", "--name", "many", "-m", "this")
    assert result.status != 0
    assert "this name is taken" in result.err

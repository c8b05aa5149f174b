"""Two nodes of a real SLURM: srun, and the mpirun and mpiexec that start their daemons by srun, as on a cluster."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.launcher.sandbox import start as sandbox
from tests.helpers.launch import LAUNCH, Launch, outcome_of, runs_folder
from tests.helpers.run_records import DIGESTS
from tests.helpers.slurm.cluster import Cluster, start_cluster
from tests.worlds.starters import IN_A_JOB, in_a_job

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def whole_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = start_cluster(tmp_path_factory.mktemp("jobs"))
    yield cluster
    sandbox.down(cluster.folder)


@pytest.fixture
def cluster(whole_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("SLURM_CONF", str(whole_cluster.conf))
    yield whole_cluster
    whole_cluster.cancel_all()


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("name", IN_A_JOB)
def test_tasks_on_two_nodes_are_one_world(
    cluster: Cluster, launch: Launch, own: Path, name: str, each: int
) -> None:
    cpu = ("--cpu", "1")
    command = [*LAUNCH, "train", str(own / "own.yaml"), "--name", "many", *cpu]
    log = in_a_job(cluster, name, each, *command)
    assert "status 0" in log, log
    assert f"started {2 * each} tasks" in log
    assert launch("train", str(own / "own.yaml"), "--cpu", str(2 * each), "--name", "one").status == 0
    one, many = outcome_of("one"), outcome_of("many")
    for key in (*DIGESTS, "ranks", "world_size"):
        assert many[key] == one[key], key


def test_a_node_of_srun_s_has_as_many_processes_as_it_is_told(cluster: Cluster, tmp_path: Path) -> None:
    program = tmp_path / "numbers.py"
    program.write_text(
        "import os, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "print('numbers', *[os.environ[n] for n in ('RANK', 'LOCAL_RANK', 'GROUP_RANK')], flush=True)\n"
        "dist.barrier()\n"  # else one that is quick leaves while others still connect to it
        "dist.destroy_process_group()\n"
    )
    log = in_a_job(cluster, "srun", 1, *LAUNCH, "run", "--cpu", "2", str(program))
    said = sorted(line.partition("numbers ")[2] for line in log.splitlines() if "numbers " in line)
    assert said == ["0 0 0", "1 1 0", "2 0 1", "3 1 1"], log
    assert all(run.name.startswith("slurm-") for run in runs_folder().glob("[!.]*"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--nodes", "3"), "leave --nodes out"),
        (("--name", "taken"), "this name is taken"),
        (("--cpu", "3"), "leave --cpu out"),
    ],
    ids=["nodes", "name", "cpu"],
)
def test_every_task_ends_where_one_is_refused(
    cluster: Cluster, launch: Launch, options: tuple[str, str], says: str
) -> None:
    """srun does not end the others."""
    assert launch("run", "--name", "taken", "-m", "this").status == 0
    log = in_a_job(cluster, "srun", 2, *LAUNCH, "run", *options, "-m", "this", seconds=100.0)
    assert "status 0" not in log
    assert log.count("hint: ") == 4, log
    assert says in log


def test_a_batch_script_and_a_step_of_one_task_are_one_process(cluster: Cluster, tmp_path: Path) -> None:
    program = tmp_path / "size.py"
    program.write_text("import os\nprint('size', os.environ['WORLD_SIZE'], flush=True)\n")
    words = shlex.join([*LAUNCH, "run", str(program)])
    job = cluster.sbatch(f"{words}\nsrun -N1 -n1 {words}", "-N2", "-n4")
    cluster.wait_for(job)
    assert cluster.log(job).count("size 1") == 2, cluster.log(job)


def test_commands_that_are_started_once_are_refused_by_every_task(cluster: Cluster) -> None:
    log = in_a_job(cluster, "srun", 1, *LAUNCH, "eval", "nothing")
    assert log.count("2 tasks would each do `launch eval`") == 2, log

"""Every starter, on 1 and 2 nodes, with 1 and 2 tasks on each: right, stale, doubled and contradictory. No process.

Nothing here may end as a world of one: it is adopted with every number right, or refused by a card that names the
variables and the way out.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.data.common.errors import MachineError, UsageError
from lockstep.launcher.options.multi_node import LocalTask
from lockstep.launcher.worlds.adoption import Placement, adopt, refuse_copies
from lockstep.launcher.worlds.agreement import without_bootstraps
from lockstep.launcher.worlds.readers import read_worlds
from lockstep.launcher.worlds.refusal import announce_refusals, heed_refusal
from tests.worlds import planted
from tests.worlds.planted import POD_STARTERS, SHAPES, STARTERS, Environment, Place

ASKED = Placement(name="mine")


def place(environment: Mapping[str, str], asked: Placement = ASKED, gpus: int = 0) -> Placement:
    return adopt(asked, lambda: gpus, environment)


def refusal(environment: Mapping[str, str], asked: Placement = ASKED) -> str:
    with pytest.raises(UsageError) as caught:
        place(environment, asked)
    assert "--ignore-world" in caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.nodes}x{s.per_node}")
@pytest.mark.parametrize("starter", STARTERS)
def test_a_world_that_is_right_is_adopted_with_every_number(starter: str, shape: Place) -> None:
    for at in shape.every():
        got = place(STARTERS[starter](at))
        if at.size == 1:
            assert got == ASKED
            continue
        assert (got.nodes, got.node_rank, got.gpus, got.cpu) == (at.size, at.rank, None, None)
        expected = LocalTask(at.local, at.per_node, at.node, at.nodes) if at.per_node > 1 else None
        assert got.task == expected
        assert bool(got.notes) == (at.rank == 0)
        assert got.options().check() is None


@pytest.mark.parametrize("gpus", [0, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.nodes}x{s.per_node}")
@pytest.mark.parametrize("starter", POD_STARTERS)
def test_a_pod_is_a_node_of_as_many_processes_as_it_is_to_start(
    starter: str, shape: Place, gpus: int
) -> None:
    for at in shape.every():
        got = place(POD_STARTERS[starter](at), gpus=gpus)
        if at.size == 1:
            assert got == ASKED
            continue
        own = (f"{at.per_node}", None) if gpus else (None, at.per_node)
        assert (got.gpus, got.cpu) == own
        assert (got.nodes or 1, got.node_rank or 0) == (at.nodes, at.node)
        assert (":29500" in got.rendezvous or ":23456" in got.rendezvous) == (at.nodes > 1)


def test_a_pod_of_an_indexed_job_has_to_be_told_how_many_there_are() -> None:
    for node in (0, 1):
        pod = planted.indexed_job(Place(2, 1, node))
        assert "JOB_COMPLETION_INDEX" in refusal(pod)
        got = place(pod, Placement(nodes=2))
        assert (got.nodes, got.node_rank, got.name) == (2, node, "digits")
    assert "no task can be 1 of 1" in refusal(pod, Placement(nodes=1))


def test_tasks_of_pbsdsh_are_the_hosts_of_the_job(tmp_path: Path) -> None:
    for node in (0, 1):
        task = planted.pbsdsh(Place(2, 1, node), tmp_path / "nodes")
        assert (place(task).nodes, place(task).node_rank) == (2, node)
        assert place(task, Placement()).name == "pbs-12.server"
    assert place({**task, "PBS_TASKNUM": "1"}) == ASKED  # the job's own script
    (tmp_path / "nodes").write_text("a\na\nb\nb\n")
    assert "4 slots on 2 hosts" in refusal(task)
    (tmp_path / "nodes").unlink()
    assert "PBS_NODEFILE" in refusal(task)


@pytest.mark.parametrize("daemon", ["orted", "prted", "hydra_pmi_proxy"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.nodes}x{s.per_node}")
def test_mpirun_in_a_slurm_job_is_the_world_and_the_step_of_its_daemons_is_none(
    shape: Place, daemon: str
) -> None:
    starter = planted.mpich if daemon.startswith("hydra") else planted.open_mpi
    for at in shape.every():
        inside = planted.inside_step_of_daemons(starter(at), at, daemon)
        got = place(inside)
        assert (got.nodes or 1, got.node_rank or 0) == (at.size, at.rank)


@pytest.mark.parametrize(
    ("programs", "left"),
    [
        (["python3", "hydra_pmi_proxy", "hydra_bstrap_pr", "slurmstepd", "slurmd"], 1),
        (["hydra_pmi_proxy", "hydra_pmi_proxy", "slurmstepd"], 1),  # MPICH 4.0
        (["orted", "slurmstepd"], 1),
        (["hydra_pmi_proxy", "mpiexec.hydra", "slurmstepd"], 2),  # each task of the step calls mpiexec
        (["bash", "slurmstepd"], 2),
        ([], 2),
    ],
)
def test_a_step_that_is_the_parent_of_mpis_daemons_is_no_world_whatever_its_variables_say(
    programs: list[str], left: int
) -> None:
    """MPICH passes on the batch script's SLURM_JOB_NAME and SLURM_TASK_PID, on all nodes."""
    at = Place(2, 1, 1, 0)
    worlds = read_worlds(planted.inside_step_of_daemons(planted.mpich(at), at, "job.sh"))
    assert {world.starter for world in worlds} == {"PMI", "a SLURM step"}
    assert len(without_bootstraps(worlds, programs)) == left


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.nodes > 1], ids=lambda s: f"{s.nodes}x{s.per_node}")
@pytest.mark.parametrize("outer", [planted.slurm, planted.train_job, planted.pytorch_job])
def test_torchrun_in_each_task_of_another_starter_is_the_world(shape: Place, outer: object) -> None:
    for at in shape.every():
        around = outer(Place(at.nodes, 1, at.node, 0) if outer is planted.slurm else at)  # type: ignore[operator]
        got = place({**around, **planted.torchrun(at)})
        assert (got.nodes, got.node_rank) == (at.size, at.rank)


ALONE = {
    "a batch script": {**planted.slurm(Place(2, 2)), "SLURM_STEP_ID": "", "SLURM_STEPID": ""},
    "a batch script as SLURM counts it": {**planted.slurm(Place(2, 2)), "SLURM_STEP_ID": "4294967291"},
    "the shell of salloc": {
        "SLURM_JOB_ID": "31",
        "SLURM_NTASKS": "4",
        "SLURM_NPROCS": "4",
        "SLURM_NNODES": "2",
    },
    "a shell under srun": {**planted.slurm(Place(1, 1)), "SLURM_NTASKS": "4"},
    "an LSF script": {"LSB_JOBID": "8", "LSB_DJOB_NUMPROC": "4", "LSB_MCPU_HOSTS": "a 2 b 2"},
    "a Flux script": {"FLUX_JOB_ID": "8", "FLUX_URI": "local:///run/flux", "FLUX_JOB_SIZE": "2"},
    "a pod": {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "digits-7"},
    "MASTER_ADDR": {"MASTER_ADDR": "node0", "MASTER_PORT": "29500", "LOCAL_RANK": "0"},
}


@pytest.mark.parametrize("what", ALONE)
def test_a_command_that_was_started_once_is_left_alone(what: str) -> None:
    assert place(ALONE[what]) == ASKED
    refuse_copies("eval", ALONE[what])


def _stale(starter: str, environment: Environment) -> Environment:
    """The same, left over from a start that is over: it says so by what it names, and that is gone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    gone = {
        "torchrun": {
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": f"{port}",
        },
        "Open MPI": {"PMIX_SERVER_URI41": f"1807286272.0;tcp4://127.0.0.1:{port}"},
        "MPICH": {"PMI_FD": "917"},
        "Intel MPI": {"PMI_FD": "917"},
        "srun": {"SLURM_TASK_PID": "999999999"},
        "srun --mpi=pmi2": {"SLURM_TASK_PID": "999999999"},
    }
    return {**environment, **gone[starter]}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.nodes}x{s.per_node}")
@pytest.mark.parametrize("starter", ["torchrun", "Open MPI", "MPICH", "Intel MPI", "srun", "srun --mpi=pmi2"])
def test_a_world_that_is_over_is_refused(starter: str, shape: Place) -> None:
    if Path("/proc/self/ns/pid").stat().st_ino != 0xEFFFFFFC and starter not in ("torchrun", "Open MPI"):
        pytest.skip("in a container the processes of a starter may be out of sight")
    for at in shape.every():
        over = _stale(starter, STARTERS[starter](at))
        if at.size == 1:
            assert place(over) == ASKED  # a world of one that is over harms nobody
        else:
            assert "that is over" in refusal(over)
            with pytest.raises(UsageError):
                refuse_copies("eval", over)


DAMAGES = {
    "rank beyond the size": lambda rank, size: {rank: "9"},
    "no rank": lambda rank, size: {rank: ""},
    "a rank that is not a number": lambda rank, size: {rank: "one"},
    "a size that is not a number": lambda rank, size: {size: "-2"},
    "no size": lambda rank, size: {size: ""},
}
NUMBERS = {
    "torchrun": ("RANK", "WORLD_SIZE"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "MPICH": ("PMI_RANK", "PMI_SIZE"),
    "Intel MPI": ("PMI_RANK", "PMI_SIZE"),
    "MVAPICH": ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    "PALS": ("PMI_RANK", "PMI_SIZE"),
    "jsrun": ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"),
    "Flux": ("FLUX_TASK_RANK", "FLUX_JOB_SIZE"),
    "TrainJob": ("PET_NODE_RANK", "PET_NNODES"),
    "PyTorchJob": ("PET_NODE_RANK", "PET_NNODES"),
}
DOUBLED = ("jsrun", "Flux")  # what they set in a second tongue as well is enough for the right answer


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("starter", NUMBERS)
def test_variables_that_are_damaged_or_half_there_are_refused_by_name(starter: str, damage: str) -> None:
    rank, size = NUMBERS[starter]
    for at in Place(2, 2).every():
        whole = (STARTERS | POD_STARTERS)[starter](at)
        own = (
            {k: v for k, v in whole.items() if k[:4] not in ("OMPI", "PMI_")} if starter in DOUBLED else whole
        )
        said = refusal({**own, **DAMAGES[damage](rank, size)})
        assert rank in said or size in said


def _adopted_or_refused(environment: Environment) -> Placement | None:
    try:
        return place(environment)
    except UsageError:
        refusal(environment)
        return None


@pytest.mark.parametrize(
    "pair", list(itertools.permutations(sorted(STARTERS | POD_STARTERS), 2)), ids="+".join
)
def test_the_variables_of_two_starters_are_one_world_or_refused(pair: tuple[str, str]) -> None:
    """The task of one, in whose environment those of another's other task are left over."""
    every = STARTERS | POD_STARTERS
    for at, other in itertools.product(Place(2, 1).every(), Place(2, 2).every()):
        environment = {**every[pair[1]](other), **every[pair[0]](at)}
        got = _adopted_or_refused(environment)
        if got is None:
            continue
        assert (got.nodes or 1) > 1, environment
        assert got.node_rank in (at.rank, other.rank, other.node)


@pytest.mark.parametrize("name", [n for n in STARTERS if not n.startswith("srun")])
def test_more_tasks_than_the_only_one_of_a_slurm_step_are_refused(name: str) -> None:
    """As after ``mpirun … srun -n1 …``, or in a shell where somebody has exported them."""
    said = refusal({**STARTERS[name](Place(2, 2, 1, 1)), **planted.slurm(Place(1, 1))})
    assert "SLURM_STEP_NUM_TASKS=1" in said
    assert "4" in said


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.size > 1], ids=lambda s: f"{s.nodes}x{s.per_node}")
@pytest.mark.parametrize("starter", STARTERS)
def test_what_was_asked_has_to_fit(starter: str, shape: Place) -> None:
    for at in shape.every():
        environment = STARTERS[starter](at)
        fitting = Placement(nodes=at.nodes, node_rank=at.node, name="mine", cpu=1)
        assert place(environment, fitting).nodes == at.size
        for wrong in (
            Placement(name="mine", nodes=at.nodes + 1),
            Placement(name="mine", node_rank=at.node + 1),
            *([Placement(name="mine", cpu=2), Placement(name="mine", gpus="2")] if at.per_node > 1 else []),
        ):
            assert "--" in refusal(environment, wrong)
        if at.per_node == 1:
            assert place(environment, Placement(name="mine", cpu=3)).cpu == 3


@pytest.mark.parametrize("starter", POD_STARTERS)
def test_a_pod_does_not_start_other_processes_than_its_job_says(starter: str) -> None:
    pod = POD_STARTERS[starter](Place(2, 2))
    assert "--cpu 3" in refusal(pod, Placement(name="mine", cpu=3))
    assert "--gpus 1" in refusal(pod, Placement(name="mine", gpus="1"))
    assert place(pod, Placement(name="mine", cpu=2)).cpu == 2


@pytest.mark.parametrize("starter", STARTERS)
def test_all_tasks_make_up_the_same_name_or_are_asked_for_one(starter: str) -> None:
    named = {"PALS": "pals-4f0c-77", "jsrun": "lsf-8812", "Flux": "flux-77309411328"}
    named |= dict.fromkeys(("srun", "srun --mpi=pmi2"), "slurm-31.0")
    for at in Place(2, 2).every():
        environment = STARTERS[starter](at)
        if starter in named:
            assert place(environment, Placement()).name == named[starter]
        else:
            assert "which run" in refusal(environment, Placement())
            assert place(environment, Placement(needs_name=False)).name is None


@pytest.mark.parametrize("starter", STARTERS | POD_STARTERS)
def test_commands_that_are_started_once_are_refused_in_every_task(starter: str) -> None:
    for shape in SHAPES:
        for at in shape.every():
            environment = (STARTERS | POD_STARTERS)[starter](at)
            if at.size == 1 or (starter in POD_STARTERS and at.nodes == 1):
                refuse_copies("eval", environment)
                continue
            with pytest.raises(UsageError, match="would each do `launch eval`"):
                refuse_copies("eval", environment)


def test_a_launch_inside_of_a_rank_of_a_launch_is_refused() -> None:
    rank = {**planted.torchrun(Place(1, 2)), "LOCKSTEP_RUN_MARK": "a"}
    assert "inside of rank 0 of a launch of 2 ranks" in refusal(rank)
    assert place({**planted.torchrun(Place(1, 1)), "LOCKSTEP_RUN_MARK": "a"}) == ASKED


def test_ranks_that_do_not_know_their_neighbours_are_refused() -> None:
    assert "how many tasks are on this machine" in refusal(
        {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    )
    assert place({"RANK": "1", "WORLD_SIZE": "2"}).node_rank == 1


def test_machines_with_unequally_many_tasks_have_one_rank_in_each() -> None:
    """As srun places four tasks on nodes of three cores and one."""
    three = {
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_NODEID": "0",
        "SLURM_GTIDS": "0,1,2",
    }
    one = {**three, "SLURM_NODEID": "1", "SLURM_GTIDS": "3", "SLURM_PROCID": "3", "SLURM_LOCALID": "0"}
    for local in range(3):
        at = {**planted.slurm(Place(1, 3, 0, local)), **three}
        assert place(at).task == LocalTask(local, 3, 0, 2)
        assert "leave --cpu out" in hint_of(at, Placement(name="mine", cpu=2))
    alone = {**planted.slurm(Place(1, 1)), **one}
    assert place(alone).task == LocalTask(0, 1, 1, 2)
    assert "leave --cpu out" in hint_of(alone, Placement(name="mine", cpu=2))
    assert "which of the tasks on its machine" in refusal({**alone, "SLURM_LOCALID": ""})


def hint_of(environment: Mapping[str, str], asked: Placement) -> str:
    with pytest.raises(UsageError) as caught:
        place(environment, asked)
    return caught.value.hint


def test_task_0_tells_the_others_what_it_has_refused(tmp_path: Path) -> None:
    told = tmp_path / "told"
    began = time.time()
    others = [planted.mpich(Place(1, 2, 0, local)) for local in (0, 1)]
    joining = adopt(ASKED, int, others[1], lambda _: told).options()
    heed_refusal(joining, began)  # nothing is said yet
    with pytest.raises(UsageError):
        adopt(replace(ASKED, cpu=2), int, others[0], lambda _: told)
    with pytest.raises(UsageError, match="node 0 has ended: --cpu 2"):
        heed_refusal(joining, began)
    heed_refusal(joining, began + 60)  # that was an earlier start
    heed_refusal(replace(joining, start="another"), began)
    with announce_refusals(adopt(ASKED, int, others[0], lambda _: told).options()):
        assert not told.exists()


def test_an_error_of_the_system_at_task_0_is_told_to_the_others_as_well(tmp_path: Path) -> None:
    told = tmp_path / "told"
    began = time.time()
    first, second = (
        adopt(ASKED, int, planted.mpich(Place(1, 2, 0, local)), lambda _: told).options() for local in (0, 1)
    )
    with pytest.raises(OSError, match="Too many open files"), announce_refusals(first):
        raise OSError(errno.EMFILE, "Too many open files", "/data/images")
    with pytest.raises(MachineError, match="node 0 has ended: /data/images: Too many open files") as caught:
        heed_refusal(second, began)
    assert caught.value.exit_status == MachineError.exit_status


def test_this_process_itself_was_started_once() -> None:
    assert adopt(ASKED, int, {k: v for k, v in os.environ.items() if k != "JOB_COMPLETION_INDEX"}) == ASKED

"""What each node is told: the user's command, and what tells the nodes apart."""

from __future__ import annotations

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.hosts.carried_environment import carried_variables, node_environment
from lockstep.launcher.hosts.host_list import Host
from lockstep.launcher.hosts.node_command import UserCommand, check_counts, node_arguments

HOSTS = [Host("a"), Host("b", processes=4)]
PLACE = "10.0.0.1:29400"


def command(*arguments: str, program: int = 0, **more: object) -> UserCommand:
    values = {"name": "mine", "gpus": None, "cpu": None, **more}
    return UserCommand(arguments, arguments[len(arguments) - program :], **values)  # type: ignore[arg-type]


def node(of: UserCommand, number: int, *, has_gpus: bool = False, hosts: list[Host] = HOSTS) -> list[str]:
    return node_arguments(of, hosts, number, PLACE, has_gpus=has_gpus)


def place(number: int) -> list[str]:
    return ["--nodes", "2", "--node-rank", str(number), "--rendezvous", PLACE]


@pytest.mark.parametrize(
    "said", [["--hosts", "a,b:4"], ["--hosts=a,b:4"], ["--hostfile", "f"], ["--hostfile=f"]]
)
def test_a_node_gets_its_place_instead_of_the_hosts(said: list[str]) -> None:
    train = command("train", "exp.yaml", *said, "train.epochs=3")
    rest = ["--ignore-world", "--name", "mine", "exp.yaml", "train.epochs=3"]
    assert node(train, 0) == ["train", *place(0), *rest]
    assert node(train, 1) == ["train", "--cpu", "4", *place(1), *rest]


def test_an_empty_word_stays_on_every_node() -> None:
    train = command("train", "exp.yaml", "--hosts", "a,b:4", "--name", "")
    for number in (0, 1):
        assert node(train, number)[-3:] == ["exp.yaml", "--name", ""]


def test_a_host_with_a_count_gets_it_on_what_was_asked_for_or_what_it_has() -> None:
    hosts = "--hosts=a,b:4"
    on_cpu = command("train", hosts, "--cpu", "2", cpu=2)
    assert node(on_cpu, 0)[-2:] == ["--cpu", "2"]
    assert node(on_cpu, 1, has_gpus=True)[:3] == ["train", "--cpu", "4"]
    assert "2" not in node(on_cpu, 1)[3:][6:]
    on_gpus = command("train", hosts, "--gpus=8", gpus="8")
    assert node(on_gpus, 1)[:3] == ["train", "--gpus", "4"]
    assert "--gpus=8" not in node(on_gpus, 1)
    assert node(command("train", hosts), 1, has_gpus=True)[:3] == ["train", "--gpus", "4"]
    for gpus in ("all", "idle", "0,2"):
        with pytest.raises(UsageError, match=r"b:4 and --gpus .*: which GPUs does it get"):
            check_counts(HOSTS, command("train", hosts, "--gpus", gpus, gpus=gpus))
    check_counts(HOSTS, command("train", hosts, "--gpus=8", gpus="8"))
    check_counts([Host("a")], command("train", hosts, "--gpus=all", gpus="all"))


def test_the_arguments_of_a_program_are_its_own() -> None:
    program = ("train.py", "--hosts", "x", "--json", "--cpu", "9")
    run = command("run", "--hosts", "a,b:4", "--cpu", "1", *program, program=6, cpu=1)
    assert node(run, 0) == [
        "run",
        *place(0),
        "--ignore-world",
        "--name",
        "mine",
        "--cpu",
        "1",
        "--",
        *program,
    ]
    assert node(run, 1) == [
        "run",
        "--cpu",
        "4",
        *place(1),
        "--ignore-world",
        "--name",
        "mine",
        "--",
        *program,
    ]
    module = command("run", "--hosts=a,b", "--", "-m", "own.train", program=2)
    assert node(module, 0)[-3:] == ["--", "-m", "own.train"]


def test_one_host_alone_meets_nobody_and_a_name_that_was_given_stays() -> None:
    alone = command("train", "--name=own", "--hosts", "b", "--json", "--ignore-world", name="own")
    assert node(alone, 0, hosts=[Host("b")]) == ["train", "--name=own", "--json", "--ignore-world"]
    resumed = command("resume", "--local", "old", "--hosts", "a,b:4", name="")
    assert node(resumed, 0) == ["resume", *place(0), "--ignore-world", "--local", "old"]
    assert "--json" not in node(command("train", "--hosts", "a,b:4", "--json"), 1)


def test_variables_travel_but_for_those_of_a_machine_a_login_or_another_launch() -> None:
    theirs = [
        "WANDB_API_KEY",
        "MY_DATA",
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "PYTHONPATH",
        "HF_HOME",
        "NCCL_DEBUG",
    ]
    theirs += [
        "LOCKSTEP_RUNS",
        "LOCKSTEP_DATA",
        "LD_LIBRARY_PATH",
        "VIRTUAL_ENV",
        "LANG",
        "HTTP_PROXY",
        "HOMEPAGE",
    ]
    kept = [
        "PATH",
        "HOME",
        "USER",
        "SHELL",
        "PWD",
        "TMPDIR",
        "SSH_AUTH_SOCK",
        "DISPLAY",
        "TERM",
        "XDG_RUNTIME_DIR",
    ]
    kept += [
        "SLURM_PROCID",
        "OMPI_COMM_WORLD_SIZE",
        "PMI_RANK",
        "PMIX_RANK",
        "PET_NNODES",
        "RANK",
        "WORLD_SIZE",
    ]
    kept += ["LOCAL_RANK", "MASTER_ADDR", "TORCHELASTIC_RUN_ID", "JOB_COMPLETION_INDEX", "GROUP_RANK"]
    kept += ["LOCKSTEP_KEY", "LOCKSTEP_RUN_MARK", "LOCKSTEP_AGENT", "LOCKSTEP_SSH", "LOCKSTEP_MEETING"]
    assert list(carried_variables(dict.fromkeys([*theirs, *kept], "x"))) == theirs


def test_a_node_has_its_own_machine_s_variables_this_python_s_folder_and_the_key() -> None:
    own = {"PATH": "/usr/bin", "HOME": "/home/ada", "LANG": "C"}
    found = node_environment(own, {"LANG": "C.UTF-8", "A": "1"}, "/opt/v/bin", "secret")
    assert found == {
        "PATH": "/opt/v/bin:/usr/bin",
        "HOME": "/home/ada",
        "LANG": "C.UTF-8",
        "A": "1",
        "LOCKSTEP_KEY": "secret",
    }
    assert node_environment(found, {}, "/opt/v/bin", "secret")["PATH"] == "/opt/v/bin:/usr/bin"

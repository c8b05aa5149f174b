"""Options of other launchers name ours; what belongs to a program is nobody's business."""

from __future__ import annotations

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.cli.foreign_options import refuse_foreign_options

OWN = {
    "--cpu": True,
    "--gpus": True,
    "--nodes": True,
    "--node-rank": True,
    "--hang-timeout": True,
    "--debug": False,
}


@pytest.mark.parametrize(
    ("line", "what", "instead"),
    [
        ("--nproc_per_node 2 x.py", "--nproc_per_node 2: not an option", "`--gpus 2` or `--cpu 2`"),
        ("--nproc-per-node=4 x.py", "--nproc-per-node 4: ", "`--gpus 4` or `--cpu 4`"),
        ("--nproc-per-node gpu x.py", "--nproc-per-node gpu: ", "`--gpus all`"),
        ("--nnodes 2 x.py", "--nnodes 2: ", "`--nodes 2`"),
        ("--nnodes 1 x.py", "--nnodes 1: ", "one machine is the default"),
        ("--nnodes 1:4 x.py", "--nnodes 1:4: ", "one machine is the default"),
        ("--standalone x.py", "--standalone: ", "one machine is the default"),
        ("--master_port 29500 x.py", "--master_port 29500: ", "`--rendezvous HOST:PORT`"),
        ("--rdzv-endpoint a:1 x.py", "--rdzv-endpoint a:1: ", "`--rendezvous HOST:PORT`"),
        ("--node_rank 1 x.py", "--node_rank 1: ", "`--node-rank 1`"),
        ("--max_restarts 3 x.py", "--max_restarts 3: ", "`--max-restarts 3`"),
        ("--num_processes 2 x.py", "--num_processes 2: ", "`--gpus 2` or `--cpu 2`"),
        ("-np 2 x.py", "-np 2: ", "`--gpus 2` or `--cpu 2`"),
        ("--hang_timeout 5 x.py", "--hang_timeout", "`--hang-timeout`"),  # its own, with underscores
        ("--debug --cpu 2 --no-python w.sh", "--no-python: ", "starts Python programs"),
    ],
)
def test_an_option_of_another_launcher_names_ours(line: str, what: str, instead: str) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_foreign_options(line.split(), OWN, is_program=bool)
    assert caught.value.message.startswith(what), caught.value.message
    assert instead in caught.value.hint


def test_all_of_them_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        refuse_foreign_options(["--standalone", "--nproc_per_node", "2", "x.py"], OWN, is_program=bool)
    assert caught.value.message == "--standalone --nproc_per_node 2: not options of launch"
    assert caught.value.hint == (
        "nothing: one machine is the default in place of --standalone; "
        "`--gpus 2` or `--cpu 2` in place of --nproc_per_node"
    )


@pytest.mark.parametrize(
    "line",
    [
        "--cpu 2 x.py --nproc_per_node 2 --standalone",
        "--cpu 2 -m package --nnodes 2",
        "--debug x.py -n 3",
        "--cpu 2 -- x.py --standalone",
        "--nobodys x.py",  # typer has its own word for it
        "",
    ],
)
def test_what_belongs_to_the_program_or_is_unknown_is_left_alone(line: str) -> None:
    assert refuse_foreign_options(line.split(), OWN, is_program=bool) is None  # type: ignore[func-returns-value]


def test_where_no_program_follows_an_option_may_stand_anywhere() -> None:
    with pytest.raises(UsageError, match="--nproc_per_node 2: "):
        refuse_foreign_options(["digits", "a=1", "--nproc_per_node", "2"], OWN, is_program=lambda _: False)
    refuse_foreign_options(["digits", "--cpu", "2", "a=1"], OWN, is_program=lambda _: False)

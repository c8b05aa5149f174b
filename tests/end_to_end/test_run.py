"""``launch run``: torchrun's contract, processes like fresh ones, output, exit statuses, ports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.launch import (
    LAUNCH,
    WATCHDOG,
    Launch,
    Result,
    outcome_of,
    run_command,
    run_folder,
    runs_folder,
)
from tests.helpers.paths import PROGRAMS
from tests.helpers.script_ranks import ADDED_VARIABLES, DIFFERENT_VARIABLES, write_script

CHANNEL, STACKS = 100, 101  # descriptors: the supervisor's channel, the file for stacks


def probed(tmp_path: Path, *command: str) -> list[dict[str, Any]]:
    """What two ranks of the probe see, in a folder of its own and with something on stdin."""
    work = tmp_path / "probed"
    done = run_command([sys.executable, *command], cwd=work, input="typed\n")
    assert done.returncode == 0, done.stderr
    found = [json.loads((work / f"seen-{rank}.json").read_text()) for rank in range(2)]
    for rank in range(2):
        (work / f"seen-{rank}.json").unlink()
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize("start", ["fork", pytest.param("exec", marks=pytest.mark.exhaustive)])
def test_a_program_cannot_tell_the_difference_from_torchrun(tmp_path: Path, start: str) -> None:
    write_script(tmp_path, "probed/here.py", (PROGRAMS / "process_probe.py").read_text())
    program = ["here.py", ".", "--cpu", "7"]
    torchrun = probed(tmp_path, "-m", "torch.distributed.run", "--nproc-per-node=2", *program)
    ours = probed(tmp_path, *LAUNCH[1:], "run", "--cpu", "2", "--start", start, *program)
    for theirs, mine in zip(torchrun, ours, strict=True):
        left, right = theirs["seen"], mine["seen"]
        environment, torchruns = right.pop("environment"), left.pop("environment")
        assert environment.keys() - torchruns.keys() <= ADDED_VARIABLES
        assert torchruns.keys() - environment.keys() == set()
        same = torchruns.keys() - DIFFERENT_VARIABLES
        assert {key: environment[key] for key in same} == {key: torchruns[key] for key in same}
        assert set(right.pop("descriptors")) - set(left.pop("descriptors")) == {CHANNEL, STACKS}
        assert set(right.pop("modules")) - set(left.pop("modules")) == {"lockstep"}
        assert right == left
        assert mine["spawned"] == theirs["spawned"] == [9]
    first, second = (answer["drawn"] for answer in ours)
    assert all(first[key] != second[key] for key in first)


DDP = """
import os, sys
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler
from .data import rows

def main():
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = DDP(torch.nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(rows(), batch_size=4, sampler=DistributedSampler(rows(), shuffle=False), num_workers=1,
                        multiprocessing_context="spawn")
    for batch in loader:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    total = model.module.weight.detach().clone()
    dist.all_reduce(total)
    assert torch.allclose(total, 2 * model.module.weight)
    print(f"trained {os.getcwd() == sys.argv[2]} {sys.argv[1:2]}")
    dist.destroy_process_group()

if __name__ == "__main__":
    main()
"""
DATA = "import torch\ndef rows():\n    return list(torch.randn(16, 3, generator=torch.Generator().manual_seed(0)))\n"
FSDP2 = """
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
dist.init_process_group("gloo")
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
for layer in model:
    if list(layer.parameters()):
        fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
optimizer = torch.optim.Adam(model.parameters())
model(torch.ones(4, 8)).sum().backward()
optimizer.step()
print("trained", type(next(model.parameters())).__name__)
dist.destroy_process_group()
"""
DTENSOR = """
import torch, torch.distributed as dist
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh
mesh = init_device_mesh("cpu", (2,))
whole = torch.arange(12.0).reshape(4, 3)
part = distribute_tensor(whole, mesh, [Shard(0)])
assert part.to_local().shape == (2, 3)
assert torch.equal((part @ part.T).full_tensor(), whole @ whole.T)
print("trained")
dist.destroy_process_group()
"""
ACCELERATE = """
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
accelerator = Accelerator(cpu=True)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(torch.randn(16, 3), batch_size=4, shuffle=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
assert accelerator.num_processes == 2, accelerator.num_processes
for batch in loader:
    optimizer.zero_grad()
    accelerator.backward(model(batch).square().mean())
    optimizer.step()
accelerator.wait_for_everyone()
accelerator.print("trained", len(loader))
accelerator.end_training()
"""
FABRIC = """
import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
assert fabric.world_size == 2
model = torch.nn.Linear(3, 1)
model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
loader = fabric.setup_dataloaders(DataLoader(torch.randn(16, 3), batch_size=4, shuffle=True))
for batch in loader:
    optimizer.zero_grad()
    fabric.backward(model(batch).square().mean())
    optimizer.step()
weights = model.module.weight.detach()
assert torch.allclose(fabric.all_reduce(weights.clone(), reduce_op="mean"), weights)
fabric.print("trained", len(loader))
"""
FABRICS_WORDS = 6  # lines in which it introduces itself


def test_a_tutorials_module_with_arguments_a_folder_and_its_own_data_py(
    launch: Launch, tmp_path: Path
) -> None:
    folder = tmp_path / "a folder"
    write_script(folder, "package/__init__.py", "")
    write_script(folder, "package/train.py", DDP)
    write_script(folder, "package/data.py", DATA)
    result = launch("run", "--cpu", "2", "-m", "package.train", "--gpus", str(folder), cwd=folder)
    assert result.status == 0, result.err
    assert result.out == "trained True ['--gpus']\n"
    assert result.err.endswith("[rank 1] trained True ['--gpus']\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("accelerated", ACCELERATE),
        pytest.param("fsdp2", FSDP2, marks=pytest.mark.exhaustive),
        pytest.param("dtensor", DTENSOR, marks=pytest.mark.exhaustive),
        pytest.param("fabric", FABRIC, marks=pytest.mark.exhaustive),
    ],
)
def test_programs_of_other_libraries_run_unchanged(
    launch: Launch, tmp_path: Path, name: str, text: str
) -> None:
    result = launch("run", "--cpu", "2", str(write_script(tmp_path, f"{name}.py", text)))
    assert result.status == 0, result.err
    assert result.out.startswith("trained"), result.out
    assert "Traceback" not in result.err
    assert "leaked" not in result.err
    assert result.err.count("\n") <= 3 + FABRICS_WORDS * (name == "fabric")


SPEAKER = """
import atexit, os, sys, time
rank = int(os.environ["RANK"])
print("all alike")
if rank:
    print(f"from {rank}", file=sys.stderr)
else:
    sys.stdout.write("no end"); sys.stderr.write("to stderr\\n")
open(f"mine-{rank}", "w").close()
atexit.register(lambda: print("goodbye"))
sys.exit(int(sys.argv[1]) if rank == 1 else 0)
"""


def test_output_logs_and_the_run_folder(launch: Launch, tmp_path: Path) -> None:
    write_script(tmp_path, "work/speaker.py", SPEAKER)
    result = launch("run", "--cpu", "3", "--name", "spoken", "speaker.py", "0")
    assert result.status == 0, result.err
    assert result.out == "all alike\nno endgoodbye\n"
    lines = result.err.splitlines()
    assert lines[0] == "spoken: 3 CPU processes, 1 thread each: speaker.py 0"
    assert {
        "to stderr",
        "[ranks 1-2] all alike",
        "[ranks 1-2] goodbye",
        "[rank 1] from 1",
        "[rank 2] from 2",
    } <= set(lines)
    folder = run_folder("spoken")
    assert sorted((folder / "attempt-1" / "rank-2.log").read_text().split("\n")) == [
        "",
        "all alike",
        "from 2",
        "goodbye",
    ]
    outcome = json.loads((folder / "outcome.json").read_text())
    assert (outcome["status"], outcome["exit_code"], outcome["world_size"]) == ("done", 0, 3)
    assert json.loads((folder / "run.json").read_text())["kind"] == "run"
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "work" / "mine-1").stat().st_mode & 0o777 == 0o666 & ~mask
    again = launch("run", "--cpu", "1", "--name", "spoken", "speaker.py", "0")
    assert again.status == 2
    assert "this name is taken by a run that is done" in again.err


def test_the_programs_own_status_is_passed_on_and_the_card_comes_last(launch: Launch, tmp_path: Path) -> None:
    write_script(tmp_path, "work/speaker.py", SPEAKER)
    result = launch("run", "--cpu", "2", "speaker.py", "42")
    assert result.status == 42
    card = result.err[result.err.rindex("error: ") :]
    assert card.startswith("error: rank 1 of 2: sys.exit(42)\n  at ")
    assert "speaker.py:11 (pid " in card
    assert "exit status 42" in card


FAILING = """
import atexit, os, sys, traceback
import torch, torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
try:
    raise KeyError("caught")
except KeyError:
    if rank == 2:
        traceback.print_exc()
print(f"{rank} starts")
atexit.register(lambda: print(f"{rank} at exit", file=sys.stderr))
if rank == 1:
    raise ValueError("bad batch")
dist.all_reduce(torch.ones(1))
"""


def test_the_screen_of_a_failure_has_the_traceback_of_the_culprit_and_no_other(
    launch: Launch, tmp_path: Path
) -> None:
    write_script(tmp_path, "work/failing.py", FAILING)
    result = launch("run", "--cpu", "4", "--name", "short", "failing.py")
    assert (result.status, result.out) == (1, "0 starts\n")
    lines = result.err.splitlines()
    own = {
        "0 at exit",
        *(f"[rank {rank}] {rank} {what}" for rank in (1, 2, 3) for what in ("starts", "at exit")),
    }
    caught = [line for line in lines if line.startswith("[rank 2] ") and line not in own]
    assert own - {"0 at exit", *(f"[rank {rank}] {rank} at exit" for rank in (2, 3))} <= set(lines)
    assert caught[-1] == "[rank 2] KeyError: 'caught'"  # is no last word, and stands there as ever
    ours = [line for line in lines if line not in own and line not in caught]
    assert len(ours) <= 12, ours
    card = ours.index("error: rank 1 of 4: ValueError: bad batch")
    assert ours[card - 4] == "[rank 1] Traceback (most recent call last):"
    assert ours[card - 1] == "[rank 1] ValueError: bad batch"
    assert "3 other ranks ended because of it" in result.err
    logs = [(run_folder("short") / "attempt-1" / f"rank-{rank}.log").read_text() for rank in range(4)]
    assert "\x1b" not in "".join(logs)
    assert logs[1].endswith("ValueError: bad batch\n1 at exit\n")
    assert sum("Connection closed by peer" in log for log in logs) >= 1  # others may have been killed before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.py"], "missing.py: there is no such script"),
        (["--start", "thread", "x.py"], "--start thread: not a way to start a process"),
        (["python", "speaker.py"], "leave `python` out"),
        (["."], "a folder without a __main__.py"),
        (["-m"], "-m: a module's name is missing"),
        (["-m", "speaker.py"], "that is a script"),
        (["-m", "nowhere.at.all"], "there is no such module"),
        (["--debug", "--cpu", "2", "speaker.py"], "--debug is one process"),
        (["--nproc_per_node", "2", "speaker.py"], "`--gpus 2` or `--cpu 2`"),
        (["--cpu"], "option '--cpu' requires an argument"),
        (["--cpu", "0", "speaker.py"], "at least one process is needed"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_no_folder(
    launch: Launch, tmp_path: Path, arguments: list[str], words: str
) -> None:
    write_script(tmp_path, "work/speaker.py", SPEAKER)
    result = launch("run", *arguments)
    assert (result.status, words in result.err) == (2, True), result.err
    assert not runs_folder().exists()


@pytest.mark.parametrize(("file", "command"), [("speaker.py", "run"), ("own.yaml", "train")])
def test_a_file_in_the_place_of_a_command_is_told_its_command(
    launch: Launch, file: str, command: str
) -> None:
    result = launch(file, "--cpu", "2")
    assert (result.status, result.err) == (
        2,
        f"error: {file}: not a command\nhint: launch {command} [OPTIONS] {file}\n",
    )


def test_where_stdin_is_closed_ranks_have_none(tmp_path: Path) -> None:
    script = write_script(tmp_path, "hello.py", "import sys\nprint('hello', repr(sys.stdin.read()))\n")
    done = run_command(["sh", "-c", 'exec "$@" <&-', "sh", *LAUNCH, "run", "--cpu", "1", str(script)])
    assert (done.returncode, done.stdout) == (0, "hello ''\n"), done.stderr


def test_debug_is_one_process_here_where_breakpoint_works(tmp_path: Path) -> None:
    script = write_script(
        tmp_path, "stop.py", "import os\nvalue = os.environ['WORLD_SIZE'] * 3\nbreakpoint()\n"
    )
    done = run_command([*LAUNCH, "run", "--debug", str(script)], input="p value\nc\n")
    assert done.returncode == 0, done.stderr
    assert "'111'" in done.stdout


LISTENER = """
import os, time, torch, torch.distributed as dist
dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
dist.barrier()
open(os.environ["READY"] + os.environ["RANK"], "w").close()
time.sleep(600 if os.environ.get("STAY") else 0)
dist.destroy_process_group()
"""


def test_nothing_of_a_run_listens_outside_loopback(tmp_path: Path) -> None:
    script = write_script(tmp_path, "listener.py", LISTENER)
    ready = tmp_path / "ready"
    environment = {**os.environ, "READY": str(ready), "STAY": "1"}
    process = subprocess.Popen(
        [*LAUNCH, "run", "--cpu", "2", str(script)], env=environment, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + WATCHDOG
        while not all(Path(f"{ready}{rank}").exists() for rank in range(2)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        listening = {
            (member.pid, connection.laddr.ip)
            for member in psutil.Process(process.pid).children(recursive=True)
            for connection in member.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    finally:
        process.terminate()
        process.communicate(timeout=WATCHDOG)
    assert len(listening) >= 3  # the store's and each rank's own
    assert {address for _, address in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.mark.exhaustive
def test_eight_launches_in_the_same_second_do_not_collide(tmp_path: Path) -> None:
    script = write_script(tmp_path, "listener.py", LISTENER)
    environment = {**os.environ, "READY": str(tmp_path / "ready")}
    started = [
        subprocess.Popen(
            [*LAUNCH, "run", "--cpu", "2", str(script)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    outputs = [process.communicate(timeout=WATCHDOG) for process in started]
    assert [process.returncode for process in started] == [0] * 8, outputs


THREADS = {  # how it is started -> what it is called
    "threading.Thread(target=time.sleep, args=(600,), daemon=True, name='theirs').start()": "theirs",
    "_thread.start_new_thread(time.sleep, (600,))": "python",  # as threads of a library, unknown to threading
}


@pytest.mark.parametrize(
    "thread", [min(THREADS, key=len), pytest.param(max(THREADS, key=len), marks=pytest.mark.exhaustive)]
)
def test_where_a_fork_would_be_unsafe_a_fresh_process_is_started_and_it_is_said(
    launch: Launch, tmp_path: Path, thread: str
) -> None:
    """A thread in the parent, as a ``.pth`` file or ``sitecustomize`` may start one."""
    write_script(tmp_path, "site/sitecustomize.py", f"import _thread, threading, time\n{thread}\n")
    script = write_script(tmp_path, "plain.py", "import os\nprint('ran as', os.environ['RANK'])\n")
    result: Result = launch("run", "--cpu", "1", str(script), env={"PYTHONPATH": str(tmp_path / "site")})
    assert result.status == 0, result.err
    assert result.out == "ran as 0\n"
    words = "rank 0 is a fresh process, not a fork: threads are running that are not known to bear a fork"
    assert f"note: {words}: {THREADS[thread]}" in result.err


@pytest.mark.parametrize(
    ("soft", "hard", "processes"),
    [(200, 200, 1), pytest.param(256, 4096, 64, marks=pytest.mark.exhaustive)],
)
def test_a_low_limit_of_open_files_is_no_obstacle(
    tmp_path: Path, soft: int, hard: int, processes: int
) -> None:
    (script := tmp_path / "fine.py").write_text("print('fine')\n")
    under = ["sh", "-c", f'ulimit -Sn {soft}; ulimit -Hn {hard}; exec "$@"', "-"]
    run = ["run", "--cpu", str(processes), "--name", "w", script]
    ended = run_command([*under, *LAUNCH, *run], cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (outcome_of("w")["status"], outcome_of("w")["world_size"]) == ("done", processes)
    assert "fine" in ended.stdout

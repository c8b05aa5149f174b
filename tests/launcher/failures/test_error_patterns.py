"""What kind of failure it was, from the words that torch, CUDA, NCCL, gloo and the kernel really use."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from lockstep.launcher.failures.attempt_end import AttemptEnd
from lockstep.launcher.failures.root_cause import diagnose_failure
from tests.helpers.rank_errors import EXIT_3_STATUS, SIGKILL_STATUS, write_error, write_victim_error

SHM = "/dev/shm may be too small"
SMALLER = "use a smaller batch per process"
FEWER = "use fewer processes, smaller batches or fewer loader workers"
KINDS: dict[str, tuple[str, str, int, str]] = {  # name -> class, message, exit status, words of the hint
    "of a GPU": (
        "OutOfMemoryError",
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB",
        7,
        SMALLER,
    ),
    "of the driver": (
        "AcceleratorError",
        "CUDA error: out of memory\nCUDA kernel errors might be…",
        7,
        SMALLER,
    ),
    "of cuBLAS": (
        "RuntimeError",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        7,
        SMALLER,
    ),
    "of torch's allocator": (
        "RuntimeError",
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory",
        7,
        FEWER,
    ),
    "of Python": ("MemoryError", "", 7, FEWER),
    "of a fork": ("OSError", "[Errno 12] Cannot allocate memory", 7, FEWER),
    "a full /dev/shm": (
        "RuntimeError",
        "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)",
        1,
        SHM,
    ),
    "a bus error in a worker": (
        "RuntimeError",
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that … out of shared memory.",
        1,
        SHM,
    ),
    "a killed worker": (
        "RuntimeError",
        "DataLoader worker (pid 7) is killed by signal: Killed.",
        1,
        "num_workers=0",
    ),
    "a breakpoint without a terminal": ("BdbQuit", "", 1, "`launch run --debug SCRIPT`"),
    "a question without a terminal": (
        "EOFError",
        "EOF when reading a line",
        1,
        "`launch run --debug SCRIPT`",
    ),
    "two ranks on a GPU": (
        "DistBackendError",
        "NCCL error: invalid usage. Duplicate GPU detected",
        1,
        "set_device",
    ),
}
RECV = "[unbound_buffer.cc:78] Timed out waiting 2000ms for recv operation to complete"
NCCL = "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE)"


@pytest.mark.parametrize("name", list(KINDS))
def test_a_failure_is_told_by_its_kind(tmp_path: Path, name: str) -> None:
    kind, message, status, words = KINDS[name]
    write_error(tmp_path, 1, type=kind, message=f"{kind}: {message}", chain=[[kind, message]])
    write_victim_error(tmp_path, 0, time_ns=1)
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: EXIT_3_STATUS, 1: EXIT_3_STATUS}), 2)
    assert error is not None
    assert error.message.startswith("rank 1 of 2")
    assert (error.exit_status, words in error.hint) == (status, True), error.hint


@pytest.mark.parametrize("here", [True, False])
def test_memory_that_ran_out_is_that_of_the_node_of_the_rank(tmp_path: Path, *, here: bool) -> None:
    elsewhere: dict[str, Any] = {"remote_hosts": {1: "far"}, "remote_memory_kills": {1: 1}}
    ending = AttemptEnd(lost={1: SIGKILL_STATUS}, **({"memory_kills": 1} if here else elsewhere))
    error = diagnose_failure(tmp_path, ending, 2)
    assert error is not None
    assert (error.exit_status, "its control group was out of memory" in error.message) == (7, True)
    other = AttemptEnd(
        lost={1: SIGKILL_STATUS},
        **({"memory_kills": 1, "remote_hosts": {1: "far"}} if here else {"remote_memory_kills": {1: 1}}),
    )
    error = diagnose_failure(tmp_path, other, 2)
    assert error is not None
    assert error.exit_status == 4


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("machine", [True, False])
def test_a_machine_without_memory_is_not_its_control_group(
    tmp_path: Path, *, here: bool, machine: bool
) -> None:
    own = {"memory_kills": 1, "machine_out_of_memory": machine}
    far = {
        "remote_hosts": {1: "far"},
        "remote_memory_kills": {1: 1},
        "remote_machines_out_of_memory": frozenset({1} if machine else ()),
        "machine_out_of_memory": not machine,
    }
    error = diagnose_failure(tmp_path, AttemptEnd(lost={1: SIGKILL_STATUS}, **(own if here else far)), 2)
    assert error is not None
    assert error.exit_status == 7
    assert ("the machine was out of memory" in error.message) == machine, error.message
    assert ("its control group was out of memory" in error.message) != machine


def test_a_worker_that_was_killed_for_want_of_memory(tmp_path: Path) -> None:
    message = "DataLoader worker (pid(s) 7) exited unexpectedly"
    chain = [
        ["RuntimeError", message],
        ["RuntimeError", "DataLoader worker (pid 7) is killed by signal: Killed. "],
    ]
    write_error(tmp_path, 0, type="RuntimeError", message=f"RuntimeError: {message}", chain=chain)
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: EXIT_3_STATUS}, memory_kills=1), 1)
    assert error is not None
    assert (error.exit_status, "its control group was out of memory" in error.hint) == (7, True)


def test_nccl_ends_a_rank_whose_peer_is_gone_and_that_is_no_cause(tmp_path: Path) -> None:
    (tmp_path / "rank-0.log").write_text(
        "[rank0]: ncclRemoteError: A call failed possibly due to a network error\n"
    )
    write_error(tmp_path, 1, time_ns=5)
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: int(signal.SIGABRT), 1: EXIT_3_STATUS}), 2)
    assert error is not None
    assert error.message.startswith("rank 1 of 2: ValueError: broken")


@pytest.mark.parametrize("words", [RECV, NCCL])
def test_the_rank_that_others_waited_for_in_vain_is_named_not_those_that_gave_up(
    tmp_path: Path, words: str
) -> None:
    for rank in (0, 2):
        write_error(tmp_path, rank, time_ns=rank, type="RuntimeError", message=f"RuntimeError: {words}")
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: EXIT_3_STATUS, 2: EXIT_3_STATUS}), 3)
    assert error is not None
    assert error.message.startswith(
        "rank 1 of 3 did not come to a collective within the time limit of the others"
    )
    assert error.exit_status == 5
    several = diagnose_failure(tmp_path, AttemptEnd(lost={0: EXIT_3_STATUS, 2: EXIT_3_STATUS}), 4)
    assert several is not None
    assert "--hang-timeout" in several.hint


def test_a_spawned_process_that_runs_the_script_again_is_explained_by_the_log(tmp_path: Path) -> None:
    """Torch's message only says that a worker has ended; what the worker said of it is in the log."""
    write_error(tmp_path, 0, type="RuntimeError", message="DataLoader worker (pid(s) 7) exited unexpectedly")
    words = "before the current process has finished its bootstrapping phase."
    (tmp_path / "rank-0.log").write_text(
        f"RuntimeError: \n An attempt has been made to start a new process {words}\n"
    )
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: EXIT_3_STATUS}), 1)
    assert error is not None
    assert "if __name__ == '__main__':" in error.hint
    assert "num_workers" not in error.hint

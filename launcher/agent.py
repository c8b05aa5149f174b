"""The agent of one node: imports torch once, then starts the ranks by fork through ``torch.distributed.elastic``.

Started by the supervisor as ``python -P -m lockstep.launcher.agent LISTEN_FD STATUS_FD``; the import of torch
overlaps with the preparation of the data. The order to go comes as one line of JSON on stdin; an end of file
instead means that there is nothing to do. The only file of the launcher that imports torch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import accelerate  # noqa: F401 - imported here once, so that no rank has to
import torch._dynamo  # noqa: F401 - DDP imports it in every rank otherwise: 5.4 s to the first all-reduce, not 2.2 s
from torch._C._distributed_c10d import TCPStore
from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ..data.parent import die_with_parent
from ..training import check, worker
from .numa import bind_rank

_BACKEND = "lockstep"
_ADDRESS = "127.0.0.1"


class LoopbackRendezvous(RendezvousHandler):
    """One node's rendezvous: a store on the loopback socket that the supervisor has bound and listens on.

    Torch's own store would listen on every interface, on a port that another program may have taken meanwhile.
    """

    def __init__(self, parameters: RendezvousParameters) -> None:
        self._run_id = parameters.run_id
        self._port = int(parameters.config["port"])
        self._store = TCPStore(
            _ADDRESS,
            self._port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=int(parameters.config["listen_fd"]),
        )

    @property
    def use_agent_store(self) -> bool:
        """The ranks use this store, too."""
        return True

    def get_backend(self) -> str:
        """The name under which it is registered."""
        return _BACKEND

    def next_rendezvous(self) -> RendezvousInfo:
        """This node alone."""
        return RendezvousInfo(self._store, 0, 1, RendezvousStoreInfo(_ADDRESS, self._port))

    def is_closed(self) -> bool:
        """Never: the agent ends with its only node."""
        return False

    def set_closed(self) -> None:
        """Nothing to close."""

    def num_nodes_waiting(self) -> int:
        """Nobody can join."""
        return 0

    def get_run_id(self) -> str:
        """The run's name."""
        return self._run_id

    def shutdown(self) -> bool:
        """Nothing is held but the store."""
        return True


class OwnLogs(LogsSpecs):
    """The ranks write their logs themselves: elastic need not lay out folders for them."""

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """No redirection for any rank."""
        nothing = dict.fromkeys(envs, "")
        return LogsDest(stdouts=nothing, stderrs=nothing, tee_stdouts={}, tee_stderrs={}, error_files=nothing)

    @property
    def root_log_dir(self) -> str:
        """Where the ranks write."""
        return str(self._root_log_dir)


def main(argv: list[str]) -> int:
    """Wait for the order, run the ranks, report how they ended."""
    listen_fd, status_fd = int(argv[0]), int(argv[1])
    die_with_parent()
    line = sys.stdin.readline()
    if not line:
        return 0
    order: dict[str, Any] = json.loads(line)
    os.environ.update(order["environment"])
    rendezvous_handler_registry.register(_BACKEND, LoopbackRendezvous)
    warnings.filterwarnings(  # the threads of torch's import hold no lock that a rank needs; see the launch tests
        "ignore", message="This process .* is multi-threaded, use of fork", category=DeprecationWarning
    )
    try:
        elastic_launch(_configuration(order, listen_fd), _rank)(
            order["argv"], order["attempt_dir"], status_fd
        )
    except ChildFailedError as error:
        failures = {str(rank): failure.exitcode for rank, failure in error.failures.items()}
        report(status_fd, kind="failed", failures=failures)
        return 1
    return 0


def _configuration(order: dict[str, Any], listen_fd: int) -> LaunchConfig:
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=order["processes"],
        run_id=order["run"],
        rdzv_backend=_BACKEND,
        rdzv_endpoint=_ADDRESS,
        rdzv_configs={"listen_fd": listen_fd, "port": order["port"]},
        local_addr=_ADDRESS,
        max_restarts=0,
        monitor_interval=0.05,
        start_method="fork",
        logs_specs=OwnLogs(order["attempt_dir"]),
        shutdown_timeout=5,
    )


def _rank(argv: list[str], attempt_dir: str, status_fd: int) -> None:
    """One rank, forked. Returns only when its work is done."""
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # elastic's handlers belong to the agent
    rank = int(os.environ["RANK"])
    bind_rank(int(os.environ["LOCAL_RANK"]))
    _redirect(Path(attempt_dir) / f"rank-{rank}.log")
    report(status_fd, kind="started", rank=rank, pid=os.getpid())
    status = 1
    try:
        status = check.main(argv, worker.main) if "--check" in argv else worker.main(argv)
    finally:  # whatever leaves by another way than "done" ends here: elastic would wait for it for ever
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        if status:
            os._exit(status)
    report(status_fd, kind="done", rank=rank)


def _redirect(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(nothing)


def report(status_fd: int, **message: Any) -> None:
    """One line to the supervisor; short enough for the pipe to keep it whole among other writers' lines."""
    os.write(status_fd, (json.dumps(message) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The elastic engine of one node: rendezvous, numbers of the ranks, their environment, and how often they start.

Runs in a process of its own beside the ranks, forked from the agent, because its store needs threads: those must
not exist where ranks are forked. It asks the agent for the ranks by a socket, one line of JSON each way.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

from torch._C._distributed_c10d import TCPStore
from torch.distributed.elastic.agent.server.api import (
    RunResult,
    SimpleElasticAgent,
    WorkerGroup,
    WorkerSpec,
    WorkerState,
)
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

_POLL_SECONDS = 0.05


class LeaderStoreRendezvous(RendezvousHandler):
    """The nodes' rendezvous: for each round a store on a socket of node 0, the first of which its supervisor has bound.

    Torch's own store would listen on every interface, on a port that another program may have taken meanwhile. A
    round of its own has a store of its own, because torch's ranks put no round's number before their keys: those
    of an earlier attempt would answer them. The first store tells the other nodes where the later ones are.
    """

    def __init__(self, order: dict[str, Any], listen_fd: int) -> None:
        self._run_id = str(order["run"])
        self._address, self._port = order["address"], order["port"]
        self._node, self._nodes = order["node"], order["nodes"]
        self._listen_fd = listen_fd
        self._round = 0
        self._first: TCPStore | None = None

    @property
    def use_agent_store(self) -> bool:
        """The ranks use this store, too."""
        return True

    def get_backend(self) -> str:
        """Return its name in torchelastic's records."""
        return "lockstep"

    def next_rendezvous(self) -> RendezvousInfo:
        """Return a round with every node, in the order of their ranks, and an unused store."""
        if self._first is None:
            store, port = self._store(self._port, self._listen_fd), self._port
            self._first = store
        else:
            self._round += 1
            store, port = self._later(self._first, f"lockstep-round-{self._round}")
        return RendezvousInfo(store, self._node, self._nodes, RendezvousStoreInfo(self._address, port))

    def _later(self, first: TCPStore, key: str) -> tuple[TCPStore, int]:
        if self._node:
            port = int(first.get(key))
            return self._store(port, -1), port
        port, descriptor = self._bound()
        store = self._store(port, descriptor)
        first.set(key, str(port))
        return store, port

    def _store(self, port: int, descriptor: int) -> TCPStore:
        if self._node:
            return TCPStore(self._address, port, is_master=False, wait_for_workers=False)
        return TCPStore(
            self._address, port, is_master=True, wait_for_workers=False, master_listen_fd=descriptor
        )

    def _bound(self) -> tuple[int, int]:
        """Return a free port, and a descriptor that listens on it."""
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        listening = socket.create_server((self._address, 0), family=family)
        return int(listening.getsockname()[1]), listening.detach()

    def is_closed(self) -> bool:
        """Return False: the supervisor ends the engine."""
        return False

    def set_closed(self) -> None:
        """Do nothing: there is nothing to close."""

    def num_nodes_waiting(self) -> int:
        """Return 0: no node can join later."""
        return 0

    def get_run_id(self) -> str:
        """Return the run's name."""
        return self._run_id

    def shutdown(self) -> bool:
        """Do nothing: only the stores are held."""
        return True


class ForkingElasticAgent(SimpleElasticAgent):
    """An agent of torchelastic with ranks that are started by the process that has imported torch.

    It never ends a rank by itself, nor calls an end one: that is the supervisor's to decide, who also knows of the
    other ranks. When the supervisor has ended them and wants them again, that is a failure to elastic, which counts
    it and starts the next round.
    """

    def __init__(
        self, spec: WorkerSpec, attempt: str, agent: socket.socket, local: dict[str, str] | None = None
    ) -> None:
        super().__init__(spec)
        self._local = local or {}
        self._attempt = Path(attempt)
        self._socket = agent
        self._buffer = b""
        self._again: str | None = None

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        environments = {
            worker.local_rank: self._environment(worker_group, worker) for worker in worker_group.workers
        }
        self._socket.sendall((json.dumps({"start": environments}) + "\n").encode())
        return {local_rank: f"rank {local_rank}" for local_rank in environments}

    def _environment(self, group: WorkerGroup, worker: Any) -> dict[str, str]:
        """Return the variables that torchrun gives its ranks; a test compares the two."""
        spec = group.spec
        return {
            "RANK": str(worker.global_rank),
            "LOCAL_RANK": str(worker.local_rank),
            "WORLD_SIZE": str(worker.world_size),
            "LOCAL_WORLD_SIZE": str(spec.local_world_size),
            "GROUP_RANK": str(group.group_rank),
            "GROUP_WORLD_SIZE": str(group.group_world_size),
            "ROLE_NAME": spec.role,
            "ROLE_RANK": str(worker.role_rank),
            "ROLE_WORLD_SIZE": str(worker.role_world_size),
            "MASTER_ADDR": str(group.master_addr),
            "MASTER_PORT": str(group.master_port),
            "TORCHELASTIC_RESTART_COUNT": str(spec.max_restarts - self._remaining_restarts),
            "TORCHELASTIC_MAX_RESTARTS": str(spec.max_restarts),
            "TORCHELASTIC_RUN_ID": spec.rdzv_handler.get_run_id(),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_ERROR_FILE": str(self._attempt / f"elastic-error-{worker.global_rank}.json"),
            "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT",
            "TORCH_NCCL_ASYNC_ERROR_HANDLING": os.environ.get("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
            **self._local,
        }

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:  # noqa: ARG002 - elastic's signature
        """Report "healthy" until the supervisor wants the next attempt; it ends this process when all is done."""
        self._listen()
        if self._again is None:
            return RunResult(WorkerState.HEALTHY)
        self._attempt, self._again = Path(self._again), None
        self._remaining_restarts = max(1, self._remaining_restarts)  # the supervisor counts: not all cost one
        return RunResult(WorkerState.FAILED)

    def _listen(self) -> None:
        self._socket.setblocking(False)  # noqa: FBT003 - its only form
        try:
            while chunk := self._socket.recv(65_536):
                self._buffer += chunk
            os._exit(0)  # the agent is gone
        except BlockingIOError:
            self._socket.setblocking(True)  # noqa: FBT003
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._again = json.loads(line)["attempt_dir"]

    def _stop_workers(self, worker_group: WorkerGroup) -> None:
        """Do nothing: the supervisor ends the ranks."""

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
        """Do nothing: the supervisor ends the ranks."""


def run_engine(order: dict[str, Any], listen_fd: int, agent: socket.socket) -> int:
    """Run the engine until the ranks have ended."""
    handler = LeaderStoreRendezvous(order, listen_fd)
    spec = WorkerSpec(
        role="default",
        local_world_size=order["processes"],
        rdzv_handler=handler,
        fn=None,
        entrypoint="rank",
        max_restarts=order["max_restarts"],
        monitor_interval=_POLL_SECONDS,
        local_addr=order["address"],
    )
    ForkingElasticAgent(spec, order["attempt_dir"], agent, order["local"]).run()
    return 0

"""One supervised launch on this node, whatever it runs: from the agent's start to the end of the last attempt.

Node 0, or the only node, decides: whether ranks hang, whether they are started again, and how it all ended. The other
nodes run the same ``Workload`` and do what node 0 says.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from ...data.common import HangError, LockstepError
from ...training.rank import Members
from ..console import print_messages
from ..failures import AttemptEnd, is_root_cause_known
from ..hang import FollowerRankMonitor, HangCoordinator, RankMonitor
from ..machine import World
from ..nodes import FollowerPeers, LeaderPeers, SingleNode
from ..options import SupervisionOptions
from ..process import remove_dumps, remove_unused_dumps
from .agent_start import AgentStart, agent_order, next_attempt_folder
from .attempt_record import JoiningProcesses
from .supervisor import Supervisor
from .workload import Workload


class Launch:
    """A supervised launch. Its agent starts at once, and imports torch while its ranks' work is still being prepared.

    Leaving it leaves no process behind.

    Args:
        attempt: folder of the first attempt, which is there.
        start: of the agent.
        world: the processes.
        options: of the supervision.
        peers: the other nodes.
    """

    def __init__(
        self,
        attempt: Path,
        start: AgentStart,
        world: World,
        options: SupervisionOptions,
        peers: SingleNode | None = None,
    ) -> None:
        self.attempt = attempt
        self.world = world
        self.options = options
        self.peers = peers or SingleNode()
        self._outputs = start.outputs
        self._streams = start.outputs.all_streams() if start.outputs else None
        self.supervisor = Supervisor(start, self.peers)
        self.data = start.data
        if self.data is not None:
            self.data.of_agent.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.kill_all()
        self.supervisor.signals.leave()
        if self.data is not None:
            self.data.close()

    def listen(self) -> None:
        """Act on signals from now on, once the ranks work; until then one would end this process."""
        self.supervisor.signals.listen()

    def run(self, workload: Workload) -> LockstepError | None:
        """Let the ranks work, and start them again where they fail and may; None when all are done, else why not."""
        handler = _Leading(self, workload)
        end = self._watch(handler, workload, {"max_restarts": self.options.max_restarts})
        return workload.failure(handler.attempt, end, handler.world)

    def follow(self, workload: Workload, go: Mapping[str, Any]) -> AttemptEnd:
        """Let this node's ranks work until node 0 says that it is over.

        Args:
            workload: what they do.
            go: node 0's word to start: where its store is, and how many restarts it may count.
        """
        if not isinstance(self.peers, FollowerPeers):
            raise TypeError("node 0 follows nobody")
        handler = _Following(self, workload, self.peers)
        return self._watch(handler, workload, {"port": go["port"], "max_restarts": go["max_restarts"]})

    def take_outputs(self) -> None:
        """Log and show what ended ranks have printed."""
        if self._outputs is not None:
            self._outputs.take_all()

    def _watch(self, handler: _Leading | _Following, workload: Workload, order: dict[str, Any]) -> AttemptEnd:
        try:
            streams = {"streams": self._streams}
            order = agent_order(self.attempt, self.world) | streams | workload.order(self.attempt) | order
            if self._outputs is not None:
                self._outputs.open_logs()
            self.supervisor.start_ranks(order, requires_done=workload.requires_done)
            end = self.supervisor.watch(handler, ignore_late_signals=workload.outcome_follows)
            workload.on_end(handler.attempt, end, handler.world)
            if end.is_well:
                remove_dumps(handler.attempt)
            return end
        finally:
            self.supervisor.kill_all()
            workload.close()
            remove_unused_dumps(handler.attempt)


class _Watching:
    """The decisions that are the same on every node while the ranks of an attempt work."""

    def __init__(self, launch: Launch, workload: Workload) -> None:
        self.attempt = launch.attempt
        self.world = launch.world
        """The processes of this attempt, which may join and leave."""
        self.note = workload.note
        self._launch = launch
        self._workload = workload
        self._numbers: Members = ()
        """Of the processes, once they have changed."""

    def _rank_monitor(self) -> RankMonitor:
        timeout, progress, numbers = self._launch.options.hang_timeout, self._workload.progress, self._numbers
        if progress is not None and numbers:
            told = progress
            progress = lambda local: told(numbers[local])  # noqa: E731 - a rank's place is not its row any more
        return RankMonitor(self.attempt, timeout, self.world.processes, progress)

    def _turn(self, attempt: Path) -> dict[str, Any]:
        """Switch to another attempt; return the order for the agent."""
        remove_unused_dumps(self.attempt)
        self.attempt = attempt
        environment = self._workload.order(attempt).get("environment", {})
        return {"attempt_dir": str(attempt), "environment": environment}

    def is_cause_known(self, end: AttemptEnd) -> bool:
        self._workload.on_loss()
        return is_root_cause_known(self.attempt, end, script=not self._workload.requires_done)


class _Leading(_Watching):
    """The decisions of node 0, or of the only node."""

    def __init__(self, launch: Launch, workload: Workload) -> None:
        super().__init__(launch, workload)
        self._peers = launch.peers
        self._restarts = 0
        self._was_asked_to_end = False
        self._processes = JoiningProcesses(launch.supervisor, launch.attempt)
        self._hangs = self._watch_for_hangs()
        self.on_signal = workload.on_signal

    @property
    def may_restart(self) -> bool:
        """Whether some are left of ``--max-restarts``, or another attempt has a better chance."""
        return self._restarts < self._launch.options.max_restarts or bool(self._workload.better_chance)

    def _watch_for_hangs(self) -> HangCoordinator:
        options = self._launch.options
        return HangCoordinator(
            self._rank_monitor(),
            self.world.size,
            self._peers,
            training=self._workload.reports_progress,
            warn=self._workload.note,
            limit=lambda: self._workload.hang_limit(options.hang_timeout, options.hang_timeout_min),
        )

    def tick(self) -> None:
        workload = self._workload
        workload.tick()
        if (change := workload.scale(self._processes)) is not None:
            self.world = replace(self.world, processes=len(change.after))
            self._numbers = tuple(sorted(change.after))
            self._hangs = self._watch_for_hangs()
        if (horizon := workload.horizon) is not None:
            self._peers.share_horizon(horizon)
        if (interruption := workload.interruption) is not None:
            self._launch.supervisor.interrupt(interruption.number)
        elif workload.asked_to_end is not None and not self._was_asked_to_end:
            self._was_asked_to_end = True
            self._launch.supervisor.ask_ranks_to_end(*workload.asked_to_end)

    def on_message(self, node: int, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "progress" and isinstance(self._peers, LeaderPeers):
            self._workload.on_progress(self._peers.first_rank(node), message["ranks"])
        elif kind == "stop":
            self._workload.stop(f"{message['by']} on node {node}")
        elif kind in ("standing", "evidence"):
            self._hangs.hear(node, message)

    def find_hang(self, pids: Mapping[int, int], ended: Container[int]) -> HangError | None:
        """Find a hang, but none of ranks that were asked to end, which may take their time for it."""
        return None if self._was_asked_to_end else self._hangs.find_hang(pids, ended)

    def next_attempt(self, end: AttemptEnd) -> dict[str, Any] | None:
        """Start the ranks once more in place, where that may help."""
        workload = self._workload
        self._launch.take_outputs()
        failure = workload.failure(self.attempt, end, self.world)
        better = workload.better_chance
        if failure is None or workload.is_stopping or not (better or workload.may_pass(failure)):
            return None
        attempt = next_attempt_folder(self.attempt.parent, "attempt")
        try:
            where = workload.prepare_restart(attempt)
            attempt.mkdir(mode=0o700)
        except LockstepError as error:  # the end is to say why the ranks failed
            print_messages([f"no restart: {error.message}"])
            return None
        except OSError as error:  # a full disk, most often
            print_messages([f"no restart: {error.filename or attempt}: {error.strerror}"])
            return None
        self._restarts += not better
        workload.on_end(self.attempt, end, self.world)
        workload.begin_attempt(attempt)
        cause = failure.message.partition("\n")[0]
        how = better or f"restart {self._restarts} of {self._launch.options.max_restarts}"
        print_messages([f"{cause}: {how}{where}"])
        order = self._turn(attempt)
        self.world, self._numbers = self._launch.world, ()
        self._processes = JoiningProcesses(self._launch.supervisor, attempt)
        self._hangs = self._watch_for_hangs()
        return order


class _Following(_Watching):
    """The decisions of a node other than node 0."""

    may_restart = False

    def __init__(self, launch: Launch, workload: Workload, peers: FollowerPeers) -> None:
        super().__init__(launch, workload)
        self._peers = peers
        self._hangs = FollowerRankMonitor(self._rank_monitor(), peers)
        self.tick = workload.tick
        self.on_signal = peers.pass_signal

    def on_message(self, _: int, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "horizon":
            self._workload.on_horizon(message)
        elif kind == "look":
            self._hangs.request_stacks(message["number"])
        elif kind == "hang limit":
            self._hangs.take_limit(message["seconds"])
        elif kind == "restart":
            attempt = self.attempt.with_name(message["attempt"])
            self._launch.take_outputs()
            self._workload.on_end(self.attempt, AttemptEnd(), self.world)  # node 0 alone knows more
            self._workload.begin_attempt(attempt)
            order = self._turn(attempt)
            self._hangs = FollowerRankMonitor(self._rank_monitor(), self._peers)
            self._launch.supervisor.restart(order)

    def find_hang(self, pids: Mapping[int, int], ended: Container[int]) -> None:
        self._hangs.tick(pids, ended)

    def next_attempt(self, _: AttemptEnd) -> None:
        """Return None: node 0 decides."""

"""``launch scale``: the number of processes changes while they train, one change after the other.

A change goes through three states. *Starting*: processes that are to join are started and build their model beside the
training, which continues. *Requested*: all are ready, and the ranks know a step that none of them has reached.
There they form the group anew. *Done*: every member of the new world has said that it continues from that step.

A process that dies begins a change, too: the others continue without it from the step that they are at, and then one
that takes its place is started as if it had been asked for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...training.rank import Members, WorldChange, resized
from ..console import print_messages
from ..runs import ScaleAnswer, ScaleRequest, answer_scale_request, take_scale_request
from .deaths import Deaths
from .horizon_control import HorizonControl
from .rank_processes import RankProcesses

if TYPE_CHECKING:  # pydantic takes its time, and `launch run` has no config
    from ...training.config import ElasticConfig

_JOIN_SECONDS = 600.0
"""That a process may take to import, open the data and build the model."""


class Scaling:
    """The changes of one launch.

    Args:
        folder: of the run, where requests are laid.
        control: how far the ranks may go.
        elastic: what is allowed; None allows nothing.
        processes: that the run begins with.
    """

    def __init__(
        self, folder: Path, control: HorizonControl, elastic: ElasticConfig | None, processes: int
    ) -> None:
        self._folder, self._control, self._elastic = folder, control, elastic
        self._first: Members = tuple(range(processes))
        self._deaths = Deaths(control, elastic)
        self._asked: ScaleRequest | None = None
        self._forget()

    def restart(self) -> None:
        """Begin with the first processes again: those of an attempt that has failed are gone."""
        self.close("the attempt has failed, and begins again with the processes of the launch")
        self._forget()

    def _forget(self) -> None:
        self._members, self._size = self._first, len(self._first)
        self._deaths.restart()
        self._change: WorldChange | None = None
        self._number = self._step = 0
        self._is_requested, self._began = False, 0.0

    def tick(self, processes: RankProcesses) -> WorldChange | None:
        """Take a request, or bring the change that is under way forward; return one that is done."""
        if killed := processes.killed:
            self._begin_rescue(killed, processes)
        elif not processes.are_ending:
            if (request := take_scale_request(self._folder)) is not None:
                self._take(request, processes)
            elif self._change is None and len(self._members) < self._size and not self._control.stopping:
                self._begin(self._size, processes)
        change = self._change
        if change is None:
            return None
        if self._is_requested:
            return self._finished(change, processes)
        self._bring_forward(change, processes)
        return None

    def close(self, why: str = "the run has ended before") -> None:
        """Answer a request that has failed."""
        self._answer(why)

    def _begin_rescue(self, killed: Mapping[int, int], processes: RankProcesses) -> None:
        """Have the others go on without those that have died, where they can."""
        is_changing = self._change is not None and self._is_requested
        if not self._deaths.accept(killed, self._members, is_changing=is_changing):
            return
        if self._change is not None:
            processes.end_joining(self._change)
            if self._asked is not None:
                self._answer("a process has died meanwhile")
        self._number += 1
        after = tuple(number for number in self._members if number not in killed)
        self._change = change = WorldChange(self._number, self._members, after, is_rescue=True)
        self._is_requested = True
        processes.begin_rescue(change)
        self._control.horizon.request_rescue(change.number, after)

    def _take(self, request: ScaleRequest, processes: RankProcesses) -> None:
        if problem := self._problem(request.processes):
            answer_scale_request(self._folder, ScaleAnswer(request.number, done=False, message=problem))
            return
        self._asked = request
        self._begin(request.processes, processes)

    def _begin(self, size: int, processes: RankProcesses) -> None:
        after = resized(self._members, size)
        self._number += 1
        self._change = change = WorldChange(self._number, self._members, after)
        self._is_requested, self._began = False, time.monotonic()
        for number in change.joining:
            self._control.horizon.prepare_row(number)
        if change.joining:
            processes.start_joining(change)

    def _problem(self, size: int) -> str:
        """Say why a request is refused; empty where it is not."""
        if self._elastic is None:
            return "train.elastic is not set: the number of processes is fixed"
        if problem := self._elastic.problem(size):
            return problem
        if self._control.stopping or self._control.interruption is not None:
            return "the run is stopping"
        if self._change is not None:
            return f"a change to {len(self._change.after)} processes is under way"
        return f"it has {size} already" if size == len(self._members) else ""

    def _bring_forward(self, change: WorldChange, processes: RankProcesses) -> None:
        """Tell the ranks, once the processes that join are ready."""
        late = time.monotonic() - self._began > _JOIN_SECONDS
        failed = processes.failed_to_join() or ("a process was not ready in time" if late else "")
        if failed or self._control.stopping:
            processes.end_joining(change)
            again = failed and self._asked is None and not self._control.stopping
            if again and self._deaths.may_try_again():
                print_messages([f"{failed}: another is started"])
            else:
                self._answer(failed or "the run is stopping")
                self._size = len(self._members)
            self._change = None
            return
        horizon = self._control.horizon
        ready = all(horizon.is_ready(number, change.number) for number in change.joining)
        if ready and self._control.has_begun:
            processes.begin_change(change)
            self._step = horizon.request_change(change.number, change.after)
            self._is_requested = True

    def _finished(self, change: WorldChange, processes: RankProcesses) -> WorldChange | None:
        if not self._control.horizon.is_done(change):
            return None
        processes.end_change(change)
        self._control.end_change(change.after)
        self._members, self._change = change.after, None
        self._size = self._size if change.is_rescue else len(change.after)
        self._answer("", change)
        return change

    def _answer(self, problem: str, change: WorldChange | None = None) -> None:
        request, self._asked = self._asked, None
        if request is None:
            if problem and self._change is not None and not self._change.is_rescue:
                print_messages([f"nothing takes the place of a process that has died: {problem}"])
            return
        answer = ScaleAnswer(request.number, done=not problem, message=problem)
        if change is not None:
            size, before, step = len(change.after), len(change.before), self._step
            said = (
                f"{size} {'process' if size == 1 else 'processes'} instead of {before} from step {step:,} on"
            )
            answer = ScaleAnswer(
                request.number, done=True, message=said, processes=size, before=before, step=step
            )
        else:
            print_messages([f"{request.processes} processes were asked for: {problem}"])
        answer_scale_request(self._folder, answer)

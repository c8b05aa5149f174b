"""Processes that die while they train: whether the others go on without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from ...data.common import signal_name
from ...training.rank import Members
from ..console import print_messages

if TYPE_CHECKING:  # pydantic takes its time, and `launch run` has no config
    from ...training.config import ElasticConfig

_PHASES = ("training", "waiting")
"""In which all ranks are, or are about to be, in the exchange of one step, or of two that follow each other."""


class Standing(Protocol):
    """The standing of a run's ranks."""

    @property
    def stopping(self) -> bool:
        """Whether they were asked to end."""

    @property
    def has_begun(self) -> bool:
        """Whether a rank has done a step in this attempt."""

    def progress_of(self, rank: int) -> tuple[int, str, int]:
        """Return (steps done, phase, a stamp) of a rank."""


class Deaths:
    """The processes that have died in an attempt, and what is decided of them.

    Args:
        control: how far the ranks are.
        elastic: what is allowed; None allows nothing.
    """

    def __init__(self, control: Standing, elastic: ElasticConfig | None) -> None:
        self._control, self._elastic = control, elastic
        self.restart()

    def restart(self) -> None:
        """Forget those of an attempt before."""
        self._deaths = 0
        self._is_over = self._elastic is None

    def accept(self, killed: Mapping[int, int], members: Members, *, is_changing: bool) -> bool:
        """Say whether the others go on; where they do not, none does for the rest of the attempt.

        Args:
            killed: the processes that have died, with their wait status.
            members: of the world until then.
            is_changing: a change has been agreed on that is not over.
        """
        if self._is_over:
            return False
        who = " and ".join(f"process {number} ({_end(status)})" for number, status in killed.items())
        have, them = ("has", "it") if len(killed) == 1 else ("have", "them")
        problem = "the processes were changing" if is_changing else self._problem(killed, members)
        if problem:
            self._is_over = True
            print_messages([f"{who} {have} died, and the others do not go on without {them}: {problem}"])
            return False
        self._deaths += len(killed)
        allowed = 0 if self._elastic is None else self._elastic.deaths
        budget = f"death {self._deaths} of {allowed} that train.elastic allows"
        print_messages([f"{who} {have} died: the others go on ({budget})"])
        return True

    def may_try_again(self) -> bool:
        """Count one that was to take the place of another and has failed; say whether there may be one more."""
        self._deaths += 1
        return not self._is_over and self._elastic is not None and self._deaths <= self._elastic.deaths

    def _problem(self, killed: Mapping[int, int], members: Members) -> str:
        """Say why the others cannot go on; empty where they can."""
        elastic, left = self._elastic, len(members) - len(killed)
        if elastic is None or self._deaths + len(killed) > elastic.deaths:
            return "train.elastic.deaths is used up"
        if left < elastic.min:
            return f"{left} would be left, and train.elastic.min is {elastic.min}"
        if self._control.stopping:
            return "the run is stopping"
        if not self._control.has_begun:
            return "no step was done yet"
        phases = {phase for _, phase, _ in map(self._control.progress_of, members)} - {*_PHASES}
        return f"the ranks were not at a step ({', '.join(sorted(phases))})" if phases else ""


def _end(status: int) -> str:
    return signal_name(status & 0x7F)

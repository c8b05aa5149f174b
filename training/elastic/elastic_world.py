"""From one world to the next, within the processes that stay: see ``docs/elastic.md``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ..checkpoint import ResumedState
from ..rank import JOINING, RankControl, WorldChange
from ..session import LogicalStep, Training
from .state_transfer import hand_over


class ElasticWorld:
    """The world of an elastic run, as one rank sees it.

    Args:
        training: of this rank.
        control: says when the world is to change.
    """

    def __init__(self, training: Training, control: RankControl) -> None:
        self._training = training
        self._control = control

    def change_due(self, step: int) -> WorldChange | None:
        """Return the change that all ranks make after so many steps; None where there is none."""
        if not self._control.is_change_due(step):
            return None
        size = self._training.session.group.world_size
        return self._control.change_from(self._control.members or tuple(range(size)))

    def go_over(self, change: WorldChange, state: Mapping[str, Any] | None) -> ResumedState | None:
        """Go over to the next world, in which logical ranks are dealt anew. Collective in both.

        Args:
            change: which is due.
            state: what ``build_state`` has built, on rank 0.

        Returns:
            What a resumed run would begin with; None where this process is no member any more.
        """
        self._control.leave_world(change)
        if self._control.number not in change.after:
            self._training.session.group.close()
            return None
        return _enter(self._training, self._control, change, state)


def join_world(training: Training, control: RankControl) -> ResumedState:
    """Wait for the change that this process was started for, and take the state from a rank that has it."""
    asked = json.loads(os.environ[JOINING])
    change = control.await_change(asked["change"], tuple(asked["before"]))
    return _enter(training, control, change, None)


def _enter(
    training: Training, control: RankControl, change: WorldChange, state: Mapping[str, Any] | None
) -> ResumedState:
    stepper = training.stepper
    if not isinstance(stepper, LogicalStep):
        raise TypeError("only logical ranks can be dealt anew")
    group = training.session.group.succeeded_by(change, control.number)
    training.session.group = group
    stepper.deal_anew(group)
    resumed = hand_over(training, change, state)
    control.enter_world(change, resumed.progress.step)
    return resumed

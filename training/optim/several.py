"""Several optimizers of one model, seen as one: their schedules, and what they keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..tensors import AnyTensor
from .lr_schedule import LRSchedule
from .optimizer_state import OptimizerState
from .plain_tree import Tensors


class JointSchedule:
    """The schedules of several optimizers.

    Args:
        schedules: by the optimizer's name.
    """

    def __init__(self, schedules: dict[str, LRSchedule]) -> None:
        self._schedules = schedules

    def set(self, step: int) -> None:
        """Make a step, counted from 0 over the run, use its learning rates."""
        for schedule in self._schedules.values():
            schedule.set(step)

    def observe(self, metrics: dict[str, float]) -> list[str]:
        """Show them the metrics of an evaluation; return why any of them lowers its rate."""
        found = {name: schedule.observe(metrics) for name, schedule in self._schedules.items()}
        return [f"optimizers.{name}: {reason}" for name, reasons in found.items() for reason in reasons]

    def state(self) -> dict[str, Any] | None:
        """Return what is not a function of the step; None where there is no such thing."""
        found = {name: state for name, one in self._schedules.items() if (state := one.state()) is not None}
        return found or None

    def load(self, state: dict[str, Any] | None) -> None:
        """Continue from ``state``."""
        for name, schedule in self._schedules.items():
            schedule.load((state or {}).get(name))


class JointState:
    """The states of several optimizers.

    Args:
        states: by the optimizer's name.
    """

    def __init__(self, states: dict[str, OptimizerState]) -> None:
        self._states = states

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the tensors of all, and what else there is."""
        tensors: Tensors = {}
        plain = {}
        for name, state in self._states.items():
            own, rest = state.save()
            tensors |= {
                f"#{name}/{key}" if key.startswith("#") else key: tensor for key, tensor in own.items()
            }
            if rest:
                plain[name] = rest
        return tensors, plain

    def load(
        self, tensors: Mapping[str, AnyTensor], plain: dict[str, Any], name_now: Callable[[str], str] = str
    ) -> None:
        """Continue from ``save``; see ``OptimizerState.load``."""
        left = dict(tensors)
        for name, state in self._states.items():
            prefix = f"#{name}/"
            own = {key.removeprefix(prefix): left.pop(key) for key in list(left) if key.startswith(prefix)}
            own |= {key: left.pop(key) for key in list(left) if state.owns(key)}
            state.load(own, plain.get(name, {}), name_now)
        if left:
            next(iter(self._states.values())).load(left, {}, name_now)  # says which parameter is not here

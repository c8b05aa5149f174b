"""Calls a user's functions at the points of a run, so that nothing of the training is another because of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter, itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import nn

from ...data.common import LockstepError, TrainingError, UsageError, load_callable, load_module, raised
from ...data.order import mix
from ..config import HOOK_POINTS, HookPoint, HooksConfig
from .hook_log import HookLog
from .run_state import RunState
from .saved_values import Tensors, gather_saved, own_saved

Metrics = Mapping[str, float | None]
_MODE, _VERSION = itemgetter("training"), attrgetter("_version")
_KEY = 0x686F6F6B  # "hook" in ASCII: their draws are no others' again


@dataclass(frozen=True)
class HookFunction:
    """A function of the user's."""

    use: str
    """As the config names it."""
    file: str
    """What it lies in: functions of one file share what they return."""
    call: Callable[[RunState], Any]


def load_hooks(config: HooksConfig | None, base: Path) -> dict[HookPoint, HookFunction]:
    """Load the functions by the points where they are called.

    Raises:
        UsageError: there is no such file or function, or a file has no function with the name of a point.
    """
    found: dict[HookPoint, HookFunction] = {}
    if config is None:
        return found
    if config.file is not None:
        module = load_module(config.file, base)
        for point in HOOK_POINTS:
            if callable(function := getattr(module, point, None)):
                found[point] = HookFunction(f"{config.file}:{point}", config.file, function)
        if not found:
            raise UsageError(
                f"hooks = {config.file}: it has none of the functions {', '.join(HOOK_POINTS)}",
                "give a function one of these names, or write hooks: {on_step: ./exp.py:name}",
            )
    for point in HOOK_POINTS:
        if (use := getattr(config, point)) is not None:
            found[point] = HookFunction(use, use.rpartition(":")[0], load_callable(use, base))
    return found


class RunProgress(Protocol):
    """Progress of a run, as hooks get it."""

    step: int
    epoch: int
    metrics: dict[str, float]


class _Watched:
    """The parts of a model that a hook may not change: listed once, because to find them takes 50 times as long.

    Args:
        model: as it is built.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self._holders = [vars(module) for module in modules]
        self._slots = [getattr(module, kind) for module in modules for kind in ("_parameters", "_modules")]
        self._buffer_slots = [module._buffers for module in modules if module._buffers]  # noqa: SLF001
        self._parameters = list(model.parameters())

    def marks(self) -> list[Any]:
        """Return what changes when the model does; a write to ``.data`` leaves no trace."""
        return [
            list(map(_MODE, self._holders)),
            list(map(_VERSION, self._parameters)),
            list(map(id, chain.from_iterable(slot.values() for slot in self._slots))),
        ]

    def buffer_marks(self) -> list[Any]:
        """Return what changes when a buffer does."""
        buffers = [one for slot in self._buffer_slots for one in slot.values() if one is not None]
        return [(id(one), _VERSION(one)) for one in buffers]


class Hooks:
    """The hooks of a run on this rank; where none is set, nothing is called, and this object is false.

    Args:
        functions: by point.
        model: what hooks may read.
        log: takes what is logged, on each of the ranks, all of which call all hooks.
        draws: the frame for random draws, made for the model: generators are as before after it; and that of
            ``on_step``, which costs little.
        evaluating: the frame in which the model may be called.
        progress: of the run, always up to date.
    """

    def __init__(
        self,
        functions: Mapping[HookPoint, HookFunction],
        model: nn.Module,
        log: HookLog,
        draws: tuple[Any, Any],
        evaluating: Callable[[], AbstractContextManager[Any]],
        progress: RunProgress,
    ) -> None:
        self._functions = functions
        self._model = model
        self._group = log.group
        self._log = log
        self._progress = progress
        self._draws, self._step_draws = draws
        self._evaluating = evaluating
        self._saved: dict[str, Any] = {}
        self._watched = _Watched(model)
        self._in_steps: _Watched | None = None
        self._buffers: list[Any] = []
        self.on_step = "on_step" in functions

    def __bool__(self) -> bool:
        """Say whether there are any."""
        return bool(self._functions)

    def use_of(self, point: HookPoint) -> str | None:
        """Return the name of the hook of a point, as the config has it."""
        function = self._functions.get(point)
        return None if function is None else function.use

    def restore(self, state: Mapping[str, Any] | None, tensors: Tensors) -> list[str]:
        """Give the hooks what they had returned at a checkpoint; return what users should know."""
        self._saved, notes = own_saved(state, tensors, self._group)
        return notes

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return what the hooks of all ranks have returned, for ``state.json``, and its tensors. Collective."""
        if not self:
            return {}, {}
        state, tensors = gather_saved(self._saved, self._group)
        return {"hooks": state}, tensors

    def call(self, point: HookPoint, metrics: Metrics | None = None) -> None:
        """Call the hook of a point, if there is one.

        Args:
            point: the point.
            metrics: of an evaluation that is not yet part of the progress.

        Raises:
            TrainingError: it raised, or changed the model.
        """
        function = self._functions.get(point)
        if function is None:
            return
        step, epoch = self._log.at = (self._progress.step, self._progress.epoch)
        state = RunState(
            step,
            epoch,
            self._group.rank,
            self._group.world_size,
            MappingProxyType({**self._progress.metrics, **(metrics or {})}),
            self._model,
            self._log.folder,
            self._group.device,
            self._saved.get(function.file),
            self._log.log,
            self._evaluation,
        )
        often = point == "on_step"
        if often and self._in_steps is None:
            self._in_steps = _Watched(self._model)
        self._watched = self._in_steps if often and self._in_steps else _Watched(self._model)
        before, self._buffers = self._watched.marks(), self._watched.buffer_marks()
        with self._step_draws if often else self._draws as draws, torch.no_grad():
            draws.key(mix(_KEY, HOOK_POINTS.index(point), step, self._group.rank))
            try:
                returned = function.call(state)
            except LockstepError as error:
                raise TrainingError(f"hooks.{point} = {function.use}: {error.message}", error.hint) from error
            except Exception as error:
                raise raised(f"hooks.{point} = {function.use} raised", error) from error
        if self._watched.marks() != before or self._watched.buffer_marks() != self._buffers:
            raise TrainingError(
                f"hooks.{point} = {function.use} changed the model: its mode, a parameter or a buffer",
                "only read it, and call it inside `with state.evaluating():`",
            )
        if returned is not None:
            self._saved[function.file] = returned

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        with self._evaluating():
            yield
        self._buffers = self._watched.buffer_marks()  # they were put back

    def at(self, point: HookPoint) -> None:
        """Write what ``on_step`` has logged, call the hook of another point, and write what that logs. Collective."""
        if self:
            step = self._progress.step
            self._log.write_up_to(step, "step")
            self.call(point)
            self._log.write_up_to(step, "log", hook=point)

    def evaluated(self, metrics: Metrics) -> dict[str, float]:
        """Call the hook of an evaluation with what it has measured; return the numbers that it logs. Collective."""
        values: dict[str, float] = {}
        if self:
            step = self._progress.step
            self._log.write_up_to(step, "step")
            self.call("on_evaluate", metrics)
            for row in self._log.collect(step):
                values |= row["values"]
                self._log.write_others(row)
        return values

    def write_step(self, step: int, values: Mapping[str, Any]) -> None:
        """Write the run's own row of a step, with what was logged then, after the rows of steps before. Collective."""
        own = {"step": step, "epoch": self._progress.epoch, "values": dict(values)}
        self._log.write_up_to(step, "step", own, together=self.on_step)

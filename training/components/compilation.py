"""``train.compile``: the model's steps through ``torch.compile``, each shape of batch by itself, counted and timed.

Of a batch of each shape a program of its own is made, unless ``dynamic`` is asked for: torch would make the second one
for all further shapes, and a resumed run, which meets the shapes in another order, would round differently.
"""

from __future__ import annotations

import os
import shutil
import time
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from ...data.common import MachineError

_DYNAMIC = "dynamic"
_MANY = 8
"""Programs after which a note says how to have fewer."""
_MOST = 64
"""Programs of one function; torch's own limit of 8 is one after which it silently compiles no more."""


class Compilation:
    """The compiler of one rank's model, and what it has done.

    Args:
        model: whose steps are compiled; it keeps its names, and in evaluation it is not compiled.
        mode: of ``train.compile``.
        device: where it runs.
        backend: of ``torch.compile``.

    Raises:
        MachineError: nothing can be compiled on this machine.
    """

    def __init__(self, model: nn.Module, mode: str, device: torch.device, backend: str = "inductor") -> None:
        self.programs = 0
        """Compiled so far, a forward pass and its backward pass being one."""
        self.seconds = 0.0
        self._said = 0
        self._counted = 0.0
        self._started = 0.0
        if backend == "inductor":
            _check_tools(device)
        self._watch()
        named = None if mode in ("default", _DYNAMIC) else mode
        compiled = torch.compile(model._call_impl, dynamic=mode == _DYNAMIC, mode=named, backend=backend)  # noqa: SLF001

        def call(*inputs: Any, **named_inputs: Any) -> Any:
            return (compiled if model.training else model._call_impl)(*inputs, **named_inputs)  # noqa: SLF001

        model._compiled_call_impl = call  # noqa: SLF001 - as Module.compile does, which knows no evaluation

    def _watch(self) -> None:
        from torch._dynamo import callback, config

        config.recompile_limit = _MOST
        config.fail_on_recompile_limit_hit = True
        callback.on_compile_start(self._begin)
        callback.on_compile_end(self._end)

    def _begin(self, *_: Any) -> None:
        self._started = time.monotonic()

    def _end(self, *about: Any) -> None:
        self.seconds += time.monotonic() - self._started
        backward = bool(about) and "BACKWARD" in str(getattr(about[0], "callback_trigger", ""))
        self.programs += not backward

    def take_seconds(self) -> float:
        """Return the seconds spent on compiling since this was asked last: they are not training."""
        new, self._counted = self.seconds - self._counted, self.seconds
        return new

    def news(self) -> str | None:
        """Tell of programs that were compiled since this was asked last."""
        if self.programs == self._said:
            return None
        first, self._said = self._said == 0, self.programs
        total = f"{self.programs} program{'s' * (self.programs > 1)}, {self.seconds:.1f} s in all"
        what = f"train.compile: compiled {'' if first else 'again, mostly for a batch of another shape: '}{total}"
        many = "; compile=dynamic makes one for all shapes, and padding to few lengths few"
        return what + many * (self.programs > _MANY)


def _check_tools(device: torch.device) -> None:
    """Compile and run something small: what is missing is reported before the first step.

    Raises:
        MachineError: it failed.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise MachineError(
            f"train.compile makes C++ of the model, but there is no compiler {compiler}",
            "install g++, name another one in CXX, or leave train.compile out",
        )
    if device.type == "cuda" and find_spec("triton") is None:
        raise MachineError(
            "train.compile needs the package triton on a GPU, which is not installed",
            "install the triton that belongs to this torch, or leave train.compile out",
        )
    try:
        torch.compile(_small)(torch.ones(3, device=device))
    except Exception as error:  # whatever the compiler raises
        raise MachineError(
            f"train.compile: nothing can be compiled on this machine: {type(error).__name__}: {_last_line(error)}",
            "repair the compiler (CXX names it), or leave train.compile out",
        ) from error


def _small(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[0] if lines else "no words")

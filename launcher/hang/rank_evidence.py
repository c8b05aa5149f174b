"""What is known of ranks when a hang is looked for, as plain values that travel as JSON, and what is judged of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from ...data.common import StackFrame, is_user_code, user_frame

_STOPPED, _TRACED = "T", "t"  # states: by a signal, by a debugger
_GROUP = ("/torch/distributed/", "/torch/nn/parallel/distributed.py")
_THROUGH = ("/torch/_ops.py", "/torch/utils/_contextlib.py")
"""Frames between a collective's function and the native code that waits."""
_SYNC = re.compile(r"\.(item|cpu|tolist|numpy|synchronize|wait|nonzero)\(")
"""Methods without a frame of their own, in which a rank waits for its GPU and so for the others."""
_WAIT = re.compile(r"\.wait\(")
_PROMPT = re.compile(r"\b(input|breakpoint|set_trace)\(")
_JOINS = ("init_process_group", "init_device_mesh")
_DEBUGGERS = ("/pdb.py", "/bdb.py", "/cmd.py", "/code.py", "/IPython/", "/ipdb/", "/debugpy/")


@dataclass(frozen=True)
class RankEvidence:
    """The evidence that is known of one rank."""

    rank: int
    pid: int | None = None
    state: str = ""
    """The letter of ``/proc/PID/stat``; empty where the process has ended."""
    has_ended: bool = False
    """It has ended, with status 0 or with its work done."""
    idle_seconds: float = 0.0
    """Seconds since the rank or a process below it used a processor, or data moved, or since it ended."""
    device: bool = False
    """It has a GPU open: waiting for that, too, uses a processor."""
    stack: Sequence[StackFrame] = ()
    """Of the thread that counts, the innermost frame first; empty where it could not be had."""
    source: str = ""
    """The text of the innermost line, where that is the user's."""
    still: float = 0.0
    """Seconds between the first look that found it at this place and the last one."""
    step: int | None = None
    """Steps done; None where the program does not say."""
    phase: str | None = None
    silent_seconds: float = 0.0
    """Seconds since its last step, change of phase or sign of life; of a training."""
    before_first_step: bool = False
    """It has not done a step since it was started."""
    file: str = ""
    """Where its stack was written."""
    held: bool = False
    """The kernel holds a thread of it, or a process below it, as for a disk."""
    asleep: bool = False
    """Its main thread sleeps, or waits for another thread: for no file, no network and no other process."""
    host: str = ""
    """Where it runs, if that is not this node."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Build it from what ``to_json`` returned on another node."""
        return cls(**{**document, "stack": [tuple(frame) for frame in document["stack"]]})

    @property
    def stopped(self) -> bool:
        """Whether a signal has stopped it."""
        return self.state == _STOPPED

    @property
    def operation(self) -> str:
        """The collective, or the wait for the GPU, that it is in; empty where it is in none."""
        return operation(self.stack, self.source, device=self.device)

    @property
    def place(self) -> str:
        """``FILE:LINE`` of the user's, else of a library's or ours; empty where no stack could be had."""
        found = user_frame(self.stack)
        return "" if found is None else f"{found[0]}:{found[1]}"

    @property
    def under_debugger(self) -> bool:
        """Whether somebody works with it in a debugger or at a prompt."""
        at_prompt = bool(_PROMPT.search(self.source))
        return self.state == _TRACED or at_prompt or any(_has(f, _DEBUGGERS) for f in self.stack)


def operation(stack: Sequence[StackFrame], source: str, *, device: bool) -> str:
    """Return what a thread waits in, if it waits for other ranks.

    Args:
        stack: the innermost frame first.
        source: the text of the innermost line, if it is the user's.
        device: the process uses a GPU.
    """
    inner = [frame for frame in stack if not _has(frame, _THROUGH)]
    if not inner:
        return ""
    if _has(inner[0], _GROUP):
        return _outermost(inner)
    if inner[0][2] == "_engine_run_backward":  # DDP's collectives belong to it, and have no frame
        return "backward"
    if device and _has(inner[0], ("/torch/cuda/",)) and inner[0][2] in ("synchronize", "wait", "query"):
        return "synchronize"
    found = (_SYNC if device else _WAIT).search(source)
    return found[0][1:-1] if found else ""


def _has(frame: StackFrame, parts: Sequence[str]) -> bool:
    return any(part in frame[0] for part in parts)


def _outermost(stack: Sequence[StackFrame]) -> str:
    """Return the function of torch that was called: those that it calls in turn say less."""
    name = stack[0][2]
    for frame in stack:
        if is_user_code(frame[0]):
            break
        if _has(frame, _GROUP) and frame[2] != "wrapper":
            name = frame[2] if frame[2] != "__init__" else "DistributedDataParallel"
    return name


def relevant_thread(threads: Sequence[Sequence[StackFrame]]) -> Sequence[StackFrame]:
    """Choose the main thread of a process, unless it waits for one that is in a collective."""
    if not threads:
        return ()
    main = threads[-1]
    if main and main[0][0].endswith("/threading.py"):
        inside = [thread for thread in threads if operation(thread, "", device=False)]
        return inside[0] if inside else main
    return main


@dataclass(frozen=True)
class HangVerdict:
    """Ranks that the others wait for."""

    culprits: Sequence[RankEvidence]
    """Empty where it cannot be told: all wait for each other."""
    waiting: Sequence[RankEvidence]
    seconds: float
    """Without progress."""
    certain: bool = True
    """Else it is a warning: there is time left."""


def are_all_joining(ranks: Sequence[RankEvidence]) -> bool:
    """Tell whether every rank waits for the others to join the process group: then nobody is left to come."""
    return all(rank.operation in _JOINS for rank in ranks)

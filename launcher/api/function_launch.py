"""``lockstep.launch``: a function on several ranks, and what each returned."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from ...data.common import UsageError
from .command import Command
from .function_rank import PAYLOAD, error_file, result_file
from .pickled import ERRORS, pickled, read_pickled, unpickled

T = TypeVar("T")


def launch(
    function: Callable[..., T],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    processes: int | None = None,
    gpus: int | str | None = None,
    env: Mapping[str, str] | None = None,
) -> list[T]:
    """Call a function on several ranks at once and return what each has returned, in the order of the ranks.

    In a rank torchrun's environment variables are set, so that ``torch.distributed.init_process_group()`` works.
    What ranks print appears here. The function may be one of a script's or a notebook's own.

    Args:
        function: called as ``function(*args, **kwargs)``; what it is made of and returns is pickled by cloudpickle.
        args: its arguments.
        kwargs: its keyword arguments.
        processes: on the processor.
        gpus: in place of ``processes``: how many GPUs, or which, as ``launch run --gpus`` has it.
        env: further variables of the ranks.

    Raises:
        Exception: the one that the function raised, on the rank that was the first to; its notes have the rank
            and the traceback.
        LockstepError: a rank was lost otherwise, as by a signal.
    """
    where = _where(processes, gpus)
    with TemporaryDirectory(prefix="lockstep-launch-") as folder:
        place = Path(folder)
        _write(place, function, args, kwargs or {})
        environment = {**os.environ, **(env or {}), "LOCKSTEP_RUNS": str(place / "runs")}
        call = ["run", *where, "--name", "call", "-m", "lockstep.launcher.api.function_rank", folder]
        command = Command(call, environment, hidden=folder)
        status = command.wait()
        _raise_first(place)
        if status:
            raise command.error(status)
        return [read_pickled(path) for path in _in_order(place)]


def _where(processes: int | None, gpus: int | str | None) -> list[str]:
    if processes is not None and gpus is not None:
        raise UsageError("processes and gpus: one of them says how many ranks there are", "leave one out")
    if gpus is not None:
        return ["--gpus", str(gpus)]
    if processes is not None and processes < 1:
        raise UsageError(f"processes={processes}: at least one is needed", "say processes=2")
    return ["--cpu", str(processes or 1)]


def _write(
    folder: Path, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    try:
        call = pickled((function, tuple(args), dict(kwargs)))
    except ERRORS as error:
        raise UsageError(
            f"{getattr(function, '__name__', function)}: it or an argument cannot be sent to a rank: {error}",
            "open files, locks and connections inside the function",
        ) from error
    (folder / PAYLOAD).write_bytes(pickled((list(sys.path), call)))


def _in_order(folder: Path) -> list[Path]:
    return sorted(folder.glob(result_file("*")), key=lambda path: int(path.stem.rpartition("-")[2]))


def _raise_first(folder: Path) -> None:
    """Raise what the first rank raised; others often only see that one is gone."""
    found = []
    for path in folder.glob(error_file("*")):
        moment, rank, text, raised = read_pickled(path)
        found.append((moment, rank, text, raised))
    if not found:
        return
    _, rank, text, raised = min(found, key=lambda row: row[:2])
    error: BaseException
    try:
        error = unpickled(raised)
    except Exception:  # noqa: BLE001 - an exception that cannot be made again is told by its text
        error = RuntimeError(text.strip().splitlines()[-1])
    error.add_note(f"raised on rank {rank}:\n{text.rstrip()}")
    raise error

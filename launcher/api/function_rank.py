"""A rank of ``lockstep.launch``: it calls the function, and leaves what that returned or raised in a file."""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

from lockstep.launcher.api.pickled import pickled, read_pickled, unpickled

PAYLOAD = "call.pkl"


def result_file(rank: object) -> str:
    """Return the name of the file with what a rank returned."""
    return f"result-{rank}.pkl"


def error_file(rank: object) -> str:
    """Return the name of the file with what a rank raised."""
    return f"error-{rank}.pkl"


def main(folder: Path) -> None:
    """Call the function; what it raises ends the rank."""
    rank = int(os.environ["RANK"])
    path, call = read_pickled(folder / PAYLOAD)
    sys.path[:] = [*path, *(place for place in sys.path if place not in path)]
    try:
        function, args, kwargs = unpickled(call)
        result = pickled(function(*args, **kwargs))
    except BaseException as error:
        said = time.time_ns(), rank, traceback.format_exc(), _pickled(error)
        _write(folder / error_file(rank), pickled(said))
        raise
    _write(folder / result_file(rank), result)
    _leave_group()


def _leave_group() -> None:
    """Leave a process group that the function has left open: its threads must not live into the interpreter's end."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _pickled(error: BaseException) -> bytes:
    """Pickle an exception; empty where it cannot be: then its text tells of it."""
    try:
        return pickled(error.with_traceback(None))
    except Exception:  # noqa: BLE001 - a user's exception may refuse in any way
        return b""


def _write(path: Path, content: bytes) -> None:
    """Write a file whole, or not at all."""
    new = path.with_suffix(".tmp")
    new.write_bytes(content)
    new.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

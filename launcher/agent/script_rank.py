"""Runs a user's program as ``python SCRIPT`` or ``python -m MODULE`` would, and records how it failed.

No decorator is asked of the script: what leaves it is written to ``attempt-K/error-R.json`` before the process
ends, and then treated as Python treats it. Also the start of a process that is not forked.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from ...data.common import is_user_code, let_in, user_location
from ..machine import bind_rank
from ..process import Mark, install_stack_handler, last_words
from .meeting_point import keep_meeting_point
from .rank_process import set_process_title

STATUS = "LOCKSTEP_STATUS_FD"
"""Number of the pipe to the supervisor; taken out of the environment before the program sees it."""
_LONGEST_MESSAGE = 4000
_LONGEST_PLACE = 300  # characters, each of up to 12 bytes in JSON: a message is one write to the pipe
_SHORTENED = (2400, 1200, 400, 100)
_ENVELOPE_BYTES = 256


def run_program(program: Sequence[str], attempt: Path, status_fd: int) -> int:
    """Run the program as ``__main__``; return the status with which Python would end.

    Args:
        program: ``SCRIPT ARGS…`` or ``-m MODULE ARGS…``.
        attempt: the folder for the record of a failure.
        status_fd: where "finished" is reported.
    """
    let_in()  # a program has these signals to itself
    rank = int(os.environ["RANK"])
    bind_rank(int(os.environ["LOCAL_RANK"]))
    install_stack_handler(attempt, rank)
    keep_meeting_point(lambda text: send_status(status_fd, kind="note", rank=rank, text=text))
    try:
        return _run(program, attempt, rank, status_fd)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - by a signal handler, as a DataLoader's, while another was recorded
        return _failed(error, attempt, rank, status_fd)


def _run(program: Sequence[str], attempt: Path, rank: int, status_fd: int) -> int:
    try:
        _execute(list(program))
    except SystemExit as error:
        if error.code is not None and error.code != 0:
            write_error_record(error, attempt, rank, status_fd)
        else:
            send_status(status_fd, kind="done", rank=rank, at=_place([error])[-_LONGEST_PLACE:])
        raise
    except KeyboardInterrupt as error:
        _show(error)
        sys.excepthook = lambda *_: None  # the interpreter's turn is only to end as one that was interrupted
        raise
    except BaseException as error:  # noqa: BLE001 - recorded, then shown as the interpreter shows it
        return _failed(error, attempt, rank, status_fd)
    send_status(status_fd, kind="done", rank=rank)
    return 0


def _failed(error: BaseException, attempt: Path, rank: int, status_fd: int) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # a DataLoader's handler raises
    write_error_record(error, attempt, rank, status_fd)
    _show(error)
    return 1


def _execute(program: list[str]) -> None:
    main = ModuleType("__main__")
    main.__dict__.update(__builtins__=sys.modules["builtins"], __annotations__={}, __cached__=None)
    sys.modules["__main__"] = main
    if (
        "__mp_main__" in sys.modules
    ):  # multiprocessing's second name for it: what a spawned child sends back is of it
        sys.modules["__mp_main__"] = main
    if program[0] == "-m":
        _first_on_path(str(Path.cwd()))
        sys.argv[:] = ["-m", *program[2:]]
        runpy._run_module_as_main(program[1])  # type: ignore[attr-defined]  # noqa: SLF001 - what ``python -m`` itself calls
        return
    sys.argv[:] = program
    path = Path(program[0])
    if path.is_dir() or path.suffix in (".zip", ".pyz"):
        sys.path.insert(0, program[0])
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]  # noqa: SLF001
        return
    _first_on_path(str(path.resolve().parent))
    _run_file(main, str(path.absolute()))


def _first_on_path(folder: str) -> None:
    if not sys.flags.safe_path:
        sys.path.insert(0, folder)


def _run_file(main: ModuleType, file: str) -> None:
    from importlib.machinery import SourceFileLoader

    main.__file__ = file
    main.__loader__ = SourceFileLoader("__main__", file)
    with Path(file).open("rb") as source:
        code = compile(source.read(), file, "exec", dont_inherit=True)
    exec(code, main.__dict__)  # noqa: S102 - running the user's script is the purpose


def _show(error: BaseException) -> None:
    """Show an error through the script's own hook if it has set one, without our frames."""
    trace = _without_ours(error.__traceback__)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    with last_words(Mark.INTERRUPT if isinstance(error, KeyboardInterrupt) else Mark.ERROR):
        sys.excepthook(type(error), error.with_traceback(trace), trace)


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    ours = (__file__, runpy.__file__, "<frozen runpy>")
    first = trace
    while first is not None and first.tb_frame.f_code.co_filename in ours:
        first = first.tb_next
    return first


def write_error_record(error: BaseException, attempt: Path, rank: int, status_fd: int) -> None:
    """Write ``error-R.json``, whole or not at all; what a full disk does not take is sent to the supervisor."""
    chain = _chain(error)
    status = 1 if not isinstance(error, SystemExit) else error.code if isinstance(error.code, int) else 1
    document: dict[str, Any] = {
        "kind": "TrainingError",
        "message": _message(error),
        "hint": "",
        "rank": rank,
        "pid": os.getpid(),
        "time_ns": time.time_ns(),
        "type": type(error).__name__,
        "ours": False,
        "chain": [[type(link).__name__, str(link)[:_LONGEST_MESSAGE]] for link in chain],
        "where": _place(chain),
        "exit_status": status,
        "traceback": "".join(traceback.format_exception(error)),
    }
    try:
        temporary = attempt / f".error-{rank}.tmp"
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8", errors="replace")
        temporary.replace(attempt / f"error-{rank}.json")
    except OSError:
        send_error(status_fd, document)


def _place(chain: list[BaseException]) -> str:
    """Return the first place of the user's in the chain of an error, where it began; else a library's."""
    places = [
        place
        for place in map(user_location, reversed(chain))
        if place and not place.startswith(f"{__file__}:")
    ]
    return next((place for place in places if is_user_code(place.rpartition(":")[0])), "".join(places[:1]))


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error, what it was raised from or while handling, and so on back to the first."""
    chain = [error]
    while (link := chain[-1].__cause__ or chain[-1].__context__) is not None and link not in chain:
        chain.append(link)
    return chain


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r})"
    return f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE]


def send_status(status_fd: int, **message: Any) -> None:
    """Send one line to the supervisor, short enough for the pipe to keep it whole among other writers' lines."""
    with suppress(OSError):  # the program may have closed every descriptor that it does not know
        os.write(status_fd, (json.dumps(message) + "\n").encode())


def send_error(status_fd: int, document: dict[str, Any]) -> None:
    """Send the record of an error that no file could take, its texts shortened until one write keeps it whole."""
    short = {key: value for key, value in document.items() if key != "traceback"}
    for length in _SHORTENED:
        short["message"] = document["message"][:length]
        short["chain"] = [[kind, text[: length // 4]] for kind, text in document.get("chain", [])[-4:]]
        if len(json.dumps(short)) < select.PIPE_BUF - _ENVELOPE_BYTES:
            break
    send_status(status_fd, kind="error", rank=document["rank"], account=short)


def main(argv: Sequence[str]) -> int:
    """Be a process of its own instead of a fork; ``argv`` is ``ATTEMPT SCRIPT ARGS…``."""
    status_fd = int(os.environ.pop(STATUS))
    set_process_title([sys.executable, "-u", *argv[1:]])
    return run_program(argv[1:], Path(argv[0]), status_fd)

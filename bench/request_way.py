"""The way of ``launch train``'s request through the launcher's files, from the command's function to its exit status.

    python bench/request_way.py              # the files in order, and how often the way comes back
    python bench/request_way.py --calls      # every call of the way

It runs a short training and follows the launcher's main thread. A call belongs to the way if something that can be
seen from outside happens in it, at any depth: a process is started; the agent is told something, or heard; the config
or a file of the run folder is read, made, locked, written, renamed or removed. So does a call of one of the ``STEPS``,
which have no such effect but without which the way cannot be understood. Of calls of one function by another, the
first counts, so that a loop counts once.

- **files**: those with at least one call of the way.
- **climbs**: calls into a file that the way has visited before the file of the call before it: a reader who follows
  the way turns back to a file already read.
- **calls back**: calls from a file into one that was visited before the caller's: what is below calls what is above.
"""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from lockstep.launcher.cli import app

LAUNCHER = str(Path(app.__file__).resolve().parents[1]) + os.sep
COMMAND = ("cli/app.py", "train")
STEPS = {
    "take_place",
    "reserve_gpus",
    "lead_nodes",
    "plan_summary",
    "build_run_spec",
    "AttemptRecord.end",
    "diagnose_failure",
}
TRAINING = ("train", "digits", "train.max_steps=4", "--cpu", "2", "--name", "way")


@dataclass
class Call:
    """A call of a function of the launcher, by another one."""

    file: str
    function: str
    caller: int | None
    counts: bool = False


@dataclass
class Way:
    """What was called, in order, and what of it counts."""

    runs: Path
    calls: list[Call] = field(default_factory=list)
    _stack: list[int] = field(default_factory=list)
    _thread: int = field(default_factory=threading.get_ident)

    def follow(self, frame: FrameType, event: str, _: Any) -> None:
        """Take a call or a return: for ``sys.setprofile``."""
        code = frame.f_code
        if not code.co_filename.startswith(LAUNCHER) or code.co_name.startswith("<"):
            return
        if event == "call":
            caller = self._stack[-1] if self._stack else None
            self.calls.append(Call(code.co_filename[len(LAUNCHER) :], code.co_qualname, caller))
            self._stack.append(len(self.calls) - 1)
            if code.co_qualname in STEPS:
                self.note_effect()
        elif event == "return" and self._stack:
            self._stack.pop()

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an event of ``sys.addaudithook``."""
        if event == "subprocess.Popen":
            self.note_effect()
        elif event in ("open", "os.mkdir", "os.rename", "os.remove"):
            path = str(arguments[0])
            if path.startswith(str(self.runs)) or path.endswith((".yaml", ".yml")):
                self.note_effect()
        elif event == "fcntl.flock":
            self.note_effect()

    def note_effect(self) -> None:
        """Count the calls that are under way."""
        if threading.get_ident() == self._thread:
            for number in self._stack:
                self.calls[number].counts = True

    def steps(self) -> list[tuple[str, str, str | None]]:
        """File, function and the caller's file of each call that counts, from the command's function on."""
        found: dict[tuple[Any, ...], tuple[str, str, str | None]] = {}
        for call in self.calls:
            caller = self.calls[call.caller] if call.caller is not None else None
            edge = (caller and (caller.file, caller.function), call.file, call.function)
            if call.counts and (found or (call.file, call.function) == COMMAND):
                found.setdefault(edge, (call.file, call.function, caller.file if caller else None))
        return list(found.values())


def watch_pipes(way: Way) -> None:
    """Let bytes through pipes count: those are the agent's."""
    read, write = os.read, os.write

    def is_pipe(descriptor: int) -> bool:
        return descriptor > 2 and stat.S_ISFIFO(os.fstat(descriptor).st_mode)

    def reading(descriptor: int, length: int) -> bytes:
        if is_pipe(descriptor):
            way.note_effect()
        return read(descriptor, length)

    def writing(descriptor: int, data: bytes) -> int:
        if is_pipe(descriptor):
            way.note_effect()
        return write(descriptor, data)

    os.read, os.write = reading, writing  # type: ignore[assignment]


def walk(arguments: tuple[str, ...]) -> Way:
    """Run the command in this process."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOCKSTEP_RUNS"] = folder
        way = Way(Path(folder))
        following = True
        sys.addaudithook(lambda event, values: way.audit(event, values) if following else None)
        watch_pipes(way)
        sys.argv = ["launch", *arguments]
        sys.setprofile(way.follow)
        try:
            status = app.main()
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            sys.setprofile(None)
            following = False
        if status:
            sys.exit(f"{' '.join(sys.argv)} ended with status {status}")
    return way


def count(steps: list[tuple[str, str, str | None]]) -> dict[str, Any]:
    """The files in order, and the steps that come back."""
    files: list[str] = []
    climbs, back = [], []
    last = ""
    for file, function, caller in steps:
        if file not in files:
            files.append(file)
        elif files.index(file) < files.index(last):
            climbs.append(f"{last} -> {file} {function}")
        if caller is not None and caller in files and files.index(file) < files.index(caller):
            back.append(f"{caller} -> {file} {function}")
        last = file
    return {"files": files, "climbs": climbs, "calls back": back}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", action="store_true", help="print every call of the way as well")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    steps = walk(TRAINING).steps()
    found = count(steps)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 0
    if arguments.calls:
        print("\n".join(f"{file:36} {function}" for file, function, _ in steps))
    for name, lines in found.items():
        print(f"{len(lines)} {name}", *lines, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())

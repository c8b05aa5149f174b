"""Writes down all that a program can see of the process that it runs in."""

from __future__ import annotations

import atexit
import faulthandler
import inspect
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import torch


def look() -> dict:
    stdin = sys.stdin.read() if os.environ["RANK"] == "0" else None
    return {
        "environment": dict(os.environ),
        "argv": sys.argv,
        "path": sys.path,
        "name": Path("/proc/self/comm").read_text(),
        "command": Path("/proc/self/cmdline").read_text().rstrip("\0").split("\0"),
        "original argv": sys.orig_argv,
        "descriptors": sorted(int(p.name) for p in Path("/proc/self/fd").iterdir() if p.exists()),
        "leader of its session": os.getsid(0) == os.getpid() == os.getpgid(0),
        "signals": {s.name: repr(signal.getsignal(s)) for s in signal.Signals},
        "blocked": [
            line for line in Path("/proc/self/status").read_text().split("\n") if line.startswith("SigB")
        ],
        "threads": [thread.name for thread in threading.enumerate()],
        "kernel threads": len(list(Path("/proc/self/task").iterdir())),
        "parent": repr(multiprocessing.parent_process()),
        "process": multiprocessing.current_process().name,
        "file": __file__,
        "spec": getattr(__spec__, "name", None),
        "package": __package__,
        "globals": sorted(globals()),
        "flags": repr(sys.flags),
        "stdin": stdin,
        "unbuffered": sys.stdout.write_through,
        "warnings": [repr(f) for f in warnings.filters],
        "faulthandler": faulthandler.is_enabled(),
        "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
        "mask": os.umask(0o022),
        "exception": repr(sys.exc_info()),
        "main": sys.modules["__main__"].__dict__ is globals(),
        "modules": sorted(name for name in sys.modules if "." not in name),
    }


def draw() -> dict:
    """Differs from process to process, and from start to start."""
    key = bytes(multiprocessing.current_process().authkey).hex()
    return {
        "torch": torch.initial_seed(),
        "numpy": np.random.random(),  # noqa: NPY002 - the global state is the point
        "python": random.random(),
        "key": key,
    }


class Result:
    """A class of ``__main__``: spawned workers have to find it by importing the script."""

    def __init__(self, value):
        self.value = value


def square(value):
    return Result(value * value)


if __name__ == "__main__":
    here = Path(sys.argv[1])
    seen = look()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spawned = [result.value for result in pool.map(square, [3])]
    answer = {"seen": seen, "drawn": draw(), "spawned": spawned, "stack": len(inspect.stack())}
    name = here / f"seen-{os.environ['RANK']}.json"
    atexit.register(lambda: name.write_text(json.dumps(answer)))

"""Where the ranks of a script meet, if the script has been written to be started by hand and says so itself.

Torch's tutorials set MASTER_ADDR and MASTER_PORT before ``init_process_group``. The ranks of a launch would all look
for a store there, since TORCHELASTIC_USE_AGENT_STORE promises one, and nobody would open it: they would wait for ever.
They are led to the launcher's store instead. Processes that such a script starts by itself, with numbers of its own,
are not ranks of the launch: the promise is not made to them, and the first of them opens the store.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

_MODULE = "torch.distributed.rendezvous"
_PROMISE = "TORCHELASTIC_USE_AGENT_STORE"
_PLACE = ("MASTER_ADDR", "MASTER_PORT")


def keep_meeting_point(note: Callable[[str], None]) -> None:
    """Lead the ranks to the launcher's store wherever the script says that they meet.

    Args:
        note: tells users that this was done.
    """
    if os.environ.get(_PROMISE) == "True":
        meeting_point = _MeetingPoint(note)
        _after_import(_MODULE, meeting_point.install)
        BaseProcess.start = meeting_point.start_alone(BaseProcess.start)  # type: ignore[method-assign, assignment]


class _MeetingPoint:
    """The place that the launcher has given this rank."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._place = {name: os.environ[name] for name in _PLACE}
        self._times = 0
        self._who = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    def install(self, module: ModuleType) -> None:
        """Have torch ask here where a store is."""
        if (create := getattr(module, "_create_c10d_store", None)) is not None:
            module._create_c10d_store = self._leading(create)  # type: ignore[attr-defined]  # noqa: SLF001 - no public way

    def _leading(self, create: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(create)
        def lead(hostname: str, port: int, rank: int, world_size: int, *more: Any, **named: Any) -> Any:
            said = {"MASTER_ADDR": str(hostname), "MASTER_PORT": str(port)}
            if os.environ.get(_PROMISE) != "True":
                return create(hostname, port, rank, world_size, *more, **named)
            is_whole = (rank, world_size) == self._who
            by_variables = {name: os.environ.get(name) for name in _PLACE} == said
            if said == self._place and not is_whole:
                return create(hostname, port, rank, world_size, *more, **named)
            if said != self._place and not (by_variables and is_whole):
                with _without_promise():
                    return create(hostname, port, rank, world_size, *more, **named)
            if said != self._place:
                self._say_that_it_is_left(said)
                os.environ.update(self._place)
            place = self._place["MASTER_ADDR"], int(self._place["MASTER_PORT"])
            return self._fresh(create(*place, rank, world_size, *more, **named))

        return lead

    def _fresh(self, store: Any) -> Any:
        """Return a store without the keys of a process group that this rank was in before; torch numbers none."""
        self._times += 1
        if self._times == 1:
            return store
        return sys.modules["torch.distributed"].PrefixStore(f"time {self._times}", store)

    def _say_that_it_is_left(self, said: dict[str, str]) -> None:
        if self._who[0] == 0:
            words = " and ".join(f"{name}={said[name]}" for name in _PLACE if said[name] != self._place[name])
            self._note(f"the script sets {words}; the ranks meet at the launcher's address: leave it out")

    def start_alone(self, start: Callable[[BaseProcess], None]) -> Callable[[BaseProcess], None]:
        """Make ``Process.start`` one that promises no store to processes which will say themselves where they meet."""

        @wraps(start)
        def start_without_promise(process: BaseProcess) -> None:
            if not _says_where_to_meet(process):
                return start(process)
            if self._who[0] == 0:
                who = "the rank" if self._who[1] == 1 else f"each of the {self._who[1]} ranks"
                way = "start it with `python`, or have it read RANK and WORLD_SIZE instead"
                self._note(f"{who} starts processes that meet on their own: {way}")
                self._note = lambda _: None
            with _without_promise():
                return start(process)

        return start_without_promise


@contextmanager
def _without_promise() -> Iterator[None]:
    promise = os.environ.pop(_PROMISE, None)
    try:
        yield
    finally:
        if promise is not None:
            os.environ[_PROMISE] = promise


def _says_where_to_meet(process: BaseProcess) -> bool:
    given = (getattr(process, "_target", None), *getattr(process, "_args", ()))
    files = {found.__code__.co_filename for found in given if isinstance(found, FunctionType)}
    return any(_sets_port(file) for file in files)


@cache
def _sets_port(file: str) -> bool:
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(f"environ[{quote}MASTER_PORT{quote}] =" in text for quote in "\"'")


def _after_import(name: str, then: Callable[[ModuleType], None]) -> None:
    if name in sys.modules:
        then(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, then))


class _Finder(MetaPathFinder):
    """A finder that finds one module as everybody does, and does something once it has been imported."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module, and leave; None for every other."""
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._then)
        return spec


class _Loader(Loader):
    """A module's own loader, and what is to be done afterwards."""

    def __init__(self, loader: Loader, then: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create it as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run it, and do the rest."""
        self._loader.exec_module(module)
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._then(module)

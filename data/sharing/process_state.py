"""What a process is besides the values that a call returns: a call that changes it cannot be made by another process.

A user's function may set a global that a step reads, or a default of torch's. Compared are the globals of the user's
modules with what hangs on them, plain settings of other modules, and those of the process. What is too large is
compared by what it is, not by what is in it; what changes besides, in a library's own depths, is not seen.
"""

from __future__ import annotations

import logging
import os
import random
import re
import resource
import sys
import sysconfig
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ..common import is_user_code

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_OPAQUE = (logging.Logger, logging.Handler, re.Pattern, ModuleType, MethodType, partial)
_MOST_NODES = 50_000
_MOST_ITEMS = 5_000
_DEEPEST = 12
_MOST_HASHED = 2**24
_PILLOW = {"PIL.Image": ("MAX_IMAGE_PIXELS", 89_478_485), "PIL.ImageFile": ("LOAD_TRUNCATED_IMAGES", False)}
"""Settings of Pillow's, which is imported late, and what they are at first."""
_OF_LIBRARIES = tuple(
    place
    for key, path in sysconfig.get_paths().items()
    if key in ("stdlib", "platstdlib", "purelib", "platlib")
    for place in (path, os.path.realpath(path))
)
_OURS = __name__.partition(".data.")[0]
_WITHOUT_SETTINGS = {_OURS, "torch", "numpy", "pandas", "pyarrow", "scipy", "sympy", "pydantic", "rich"}
"""Large packages whose settings are no plain attributes of modules, or are looked at by name."""


_Place = tuple[str, str]
"""The name of a module, empty for the process itself, and of what it holds."""


@dataclass(frozen=True)
class ProcessState:
    """The state of this process at one moment."""

    values: dict[_Place, Any]
    """What is compared."""
    users: frozenset[str]
    """The user's modules."""
    kept: list[Any]
    """What the values name by address: it must not be freed meanwhile."""

    @staticmethod
    def now() -> ProcessState:
        """Take the state as it is."""
        look = _Look()
        modules = {name: module for name, module in list(sys.modules.items()) if module is not None}
        users = {name for name, module in modules.items() if _is_users(name, module)}
        values: dict[_Place, Any] = {("", what): one for what, one in _settings().items()}
        for name in sorted(users):
            for key, value in list(vars(modules[name]).items()):
                if not key.startswith("__") and not isinstance(value, ModuleType):
                    values[name, key] = look.of(value)
        for name, module in modules.items():
            if name not in users and _may_have_settings(name):
                values |= {(name, key): value for key, value in _plain_settings(module)}
        return ProcessState(values, frozenset(users), look.kept)

    def change_until(self, later: ProcessState) -> str:
        """Name something that is another one later; empty where nothing is."""
        new = sorted(later.users - self.users)
        if new:
            return f"it imports {_shown(new[0])}, which may keep something of the call"
        for (module, key), value in later.values.items():
            known = self.values.get((module, key), _NEW)
            if known != value and (known is not _NEW or module in self.users):
                return f"it sets {key} of {_shown(module)}"
        return ""


_NEW: Any = object()


def _is_users(name: str, module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or name.partition(".")[0] == _OURS or name == "__main__":
        return False
    return not file.startswith(_OF_LIBRARIES) and is_user_code(file)


def _may_have_settings(name: str) -> bool:
    top = name.partition(".")[0]
    return top not in sys.stdlib_module_names and top not in _WITHOUT_SETTINGS


def _plain_settings(module: ModuleType) -> list[tuple[str, Any]]:
    return [
        (key, repr(value))
        for key, value in list(vars(module).items())
        if not key.startswith("_") and type(value) in _PLAIN
    ]


def _shown(name: str) -> str:
    if not name:
        return "this process"
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file).name if isinstance(file, str) and is_user_code(file) else name


def _settings() -> dict[str, Any]:
    """Return what decides numbers, or what can be found and opened, in the whole process."""
    import torch

    cudnn = torch.backends.cudnn
    return {
        "the default type of tensors": str(torch.get_default_dtype()),
        "the default device of tensors": str(torch.get_default_device()),
        "the number of threads": torch.get_num_threads(),
        "the mode of gradients": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "the precision of matrix products": torch.get_float32_matmul_precision(),
        "settings of cuDNN": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
        "how tensors are sent": torch.multiprocessing.get_sharing_strategy(),
        "NumPy's errors": repr(np.geterr()),
        "the environment": dict(os.environ),
        "the working folder": str(Path.cwd()),
        "the path of modules": tuple(sys.path),
        "the limit of open files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "the limit of recursion": sys.getrecursionlimit(),
        **{
            f"{key} of Pillow": repr(getattr(sys.modules.get(name), key, first))
            for name, (key, first) in _PILLOW.items()
        },
    }


class _Look:
    """Makes a token of each value, which is equal as long as the value is the same and holds the same."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self._seen: set[int] = set()

    def of(self, value: Any, depth: int = 0) -> Any:
        """Return the token of a value."""
        if type(value) in _PLAIN:
            return (type(value).__name__, repr(value) if isinstance(value, float | complex) else value)
        if id(value) in self._seen:
            return ("seen", id(value))
        self._seen.add(id(value))
        self.kept.append(value)
        if depth > _DEEPEST or len(self._seen) > _MOST_NODES:
            return (id(value), len(value) if isinstance(value, list | dict | set) else 0)
        return (id(value), self._inside(value, depth + 1))

    def _inside(self, value: Any, depth: int) -> Any:
        if isinstance(value, _OPAQUE):
            return None
        if (numbers := _numbers(value)) is not None:
            return numbers
        if isinstance(value, Mapping | list | tuple | set | frozenset | deque) and _is_plain_size(value):
            parts = value.items() if isinstance(value, Mapping) else value
            flat = [
                part for item in list(parts) for part in (item if isinstance(value, Mapping) else (item,))
            ]
            return tuple(self.of(part, depth) for part in flat)
        if isinstance(value, FunctionType):
            return self.of(vars(value), depth)
        if isinstance(value, type):
            module = sys.modules.get(value.__module__)
            return (
                self._attributes(vars(value), depth)
                if module and _is_users(value.__module__, module)
                else None
            )
        held = getattr(value, "__dict__", None)
        return self._attributes(held, depth) if isinstance(held, Mapping) else _length(value)

    def _attributes(self, held: Mapping[str, Any], depth: int) -> Any:
        named = [(key, item) for key, item in list(held.items()) if not str(key).startswith("__")]
        return tuple((key, self.of(item, depth)) for key, item in named)


def _is_plain_size(value: Any) -> bool:
    return _length(value) <= _MOST_ITEMS


def _length(value: Any) -> int:
    try:
        return len(value)
    except Exception:  # noqa: BLE001 - the user's
        return 0


def _numbers(value: Any) -> Any:
    """Return what stands for an array, a tensor or a generator; None for anything else."""
    torch = sys.modules.get("torch")
    if isinstance(value, np.ndarray):
        whole = value.nbytes <= _MOST_HASHED and not value.dtype.hasobject
        return value.shape, str(value.dtype), zlib.crc32(value.tobytes()) if whole else 0
    if torch is not None and isinstance(value, torch.Tensor):
        return tuple(value.shape), value._version if not value.is_inference() else 0  # noqa: SLF001
    if torch is not None and isinstance(value, torch.Generator):
        return zlib.crc32(value.get_state().numpy().tobytes())
    if isinstance(value, np.random.Generator | np.random.RandomState):
        return zlib.crc32(repr(value.__getstate__()).encode())
    if isinstance(value, random.Random):
        return hash(value.getstate())
    return None

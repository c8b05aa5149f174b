"""Public names of a package, imported on first use: `launch --help` must not load torch for them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

_EXPORT = re.compile(r"^    from \.(\w*) import (\w+) as \2$", re.MULTILINE)


def exported(source: str) -> dict[str, str]:
    """Map each public name to the submodule that defines it; a submodule that is itself public maps to "".

    Args:
        source: of a package's ``__init__``, which lists its names under ``if TYPE_CHECKING:``, one to a line, as
            ``from .module import name as name``: the one list serves readers, type checkers and the import.
    """
    return {name: module for module, name in _EXPORT.findall(source)}


def lazy_exports(package: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package's ``__init__`` (PEP 562); Python 3.15's lazy imports will replace it."""
    names: dict[str, str] = {}

    def load(name: str) -> Any:
        module = sys.modules[package]
        if not names:
            loader = module.__spec__.loader if module.__spec__ else None
            names.update(exported(loader.get_source(package) if loader else ""))  # type: ignore[attr-defined]
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = import_module(f"{package}.{names[name] or name}")
        value = getattr(home, name) if names[name] else home
        setattr(module, name, value)
        return value

    return load

"""Finds what ``use:`` names: ``package.module:callable`` or ``./file.py:callable``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import LockstepError, TrainingError, UsageError
from .os_hints import path_hint
from .suggest import closest_name, suggestion
from .user_frames import user_location

_FILE_MODULE = "lockstep_user_"


def load_callable(use: str, base: Path) -> Callable[..., Any]:
    """Load the callable that ``use`` names; a user's module is imported, and so runs, here.

    Args:
        use: ``package.module:callable``, or ``./file.py:callable`` relative to ``base``.
        base: the folder of the config file. What lies there can be imported as well; it comes last on the
            path, so that a user's ``data.py`` never stands in for another package's.

    Raises:
        UsageError: there is no such file, module or name, or it cannot be called.
        TrainingError: the user's module raised while it was imported.
    """
    source, _, name = use.rpartition(":")
    if not source or not name.isidentifier():
        raise UsageError(f"{use!r} names no callable", "write package.module:callable or ./file.py:callable")
    return _callable_named(load_module(source, base), name, use)


def load_module(source: str, base: Path) -> ModuleType:
    """Load ``package.module`` or ``./file.py``; it runs here. Arguments and errors as of ``load_callable``."""
    return _load_file(source, base) if source.endswith(".py") else _load_module(source, base)


def raised(what: str, error: BaseException) -> TrainingError:
    """Make the error for an exception that came out of ``what``, the user's code; it names the user's line."""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}"
        return TrainingError(f"{what} ({where}): SyntaxError: {error.msg}", "correct that line")
    detail = "".join(traceback.format_exception_only(error)).strip()
    hint = path_hint(error) or "correct the code at that line"
    return TrainingError(f"{what} ({user_location(error)}): {detail}", hint)


def raised_at_its_line(what: str, error: BaseException) -> TrainingError:
    """Make the error for an exception of the user's code that ``what`` tells of already, with the user's line below."""
    return TrainingError(f"{what}\nat {user_location(error)}", "correct the code at that line")


def with_path_hint(error: TrainingError, base: Path) -> TrainingError:
    """Add to the error for a file that was not found whether it lies beside the config.

    Args:
        error: whose cause is what the user's code raised.
        base: the folder of the config file.
    """
    return TrainingError(error.message, path_hint(error.__cause__, base) or error.hint)


def _load_file(source: str, base: Path) -> ModuleType:
    path = (base / Path(source).expanduser()).resolve()
    if not path.is_file():
        raise UsageError(f"there is no file {path}{_similar_files(path)}", relative_path_hint(base))
    # The same file is the same module for data, model and loss; the name survives pickling to forked workers.
    name = f"{_FILE_MODULE}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        _append_to_sys_path(path.parent)
        _execute(name, path)
    return sys.modules[name]


def module_name_for_users(name: str) -> str:
    """Return the name that users know a module by: of one that was loaded from a file, the file's."""
    return name.removeprefix(_FILE_MODULE).rpartition("_")[0] if name.startswith(_FILE_MODULE) else name


def _execute(name: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file", "name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, LockstepError | KeyboardInterrupt):
            raise
        raise raised(f"{path} failed to import", error) from error


def _similar_files(path: Path) -> str:
    return suggestion(path.name, (p.name for p in path.parent.glob("*.py")))


def _load_module(source: str, base: Path) -> ModuleType:
    _append_to_sys_path(base)
    try:
        return importlib.import_module(source)
    except (LockstepError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and f"{source}.".startswith(f"{error.name}."):
            raise _missing_module_error(source, error.name or source, base) from error
        raise raised(f"{source} failed to import", error) from error


def _missing_module_error(source: str, missing: str, base: Path) -> UsageError:
    parent, _, last = missing.rpartition(".")
    where = list(getattr(sys.modules.get(parent), "__path__", [])) if parent else sys.path
    names = {module.name for module in pkgutil.iter_modules(where)}
    close = suggestion(last, names)
    return UsageError(
        f"there is no module {missing!r} for {source!r}{close}",
        f"install it, or put it into {base}" + ("" if base.is_dir() else f"; {relative_path_hint(base)}"),
    )


def _callable_named(module: ModuleType, name: str, use: str) -> Callable[..., Any]:
    found = getattr(module, name, None)
    if not hasattr(module, name):
        names = _callable_names(module)
        raise UsageError(
            f"{use}: {module.__file__ or module.__name__} has no {name!r}{suggestion(name, names)}",
            f"it has {', '.join(names[:20])}" if names else "it has nothing that can be called",
        )
    if not callable(found):
        raise UsageError(f"{use} is {type(found).__name__}, which cannot be called", "name a function")
    return found  # type: ignore[no-any-return]


def _callable_names(module: ModuleType) -> list[str]:
    names: Iterable[str] = (name for name in vars(module) if not name.startswith("_"))
    return sorted(name for name in names if callable(getattr(module, name)))


def _append_to_sys_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def relative_path_hint(base: Path) -> str:
    """Say which folder relative paths start from; a run remembers it, and the folder may have moved since."""
    if base.is_dir():
        return f"paths are relative to {base}"
    return (
        f"paths are relative to {base}, which is not there any more: put the folder or a link to it back,"
        " or continue with `launch train CONFIG --resume RUN` from where the config is now"
    )


def load_user_function(use: str, key: str, built_in: Iterable[str], base: Path) -> Callable[..., Any]:
    """Load the user's function where no built-in one has the name.

    Raises:
        UsageError: there is no such function; the error lists the built-in ones of ``key``.
    """
    if ":" in use:
        return load_callable(use, base)
    guess = closest_name(use, built_in)
    raise UsageError(
        f"{key} = {use}: there is no such function" + (f"; did you mean {guess}?" if guess else ""),
        f"built in are {', '.join(built_in)}; your own is package.module:callable or ./file.py:callable",
    )

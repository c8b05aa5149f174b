"""Whose code a line is: the place in a traceback that the user can do something about."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

StackFrame = tuple[str, int, str]
"""File, line, function."""
_PACKAGE = Path(__file__).resolve().parents[2]
_FLOORS = tuple(_PACKAGE / floor for floor in ("data", "training", "launcher"))
"""From a clone or in a wheel: `data/common/user_frames.py` and the rest lie in these folders, at any depth."""
_LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))


def _is_ours(filename: str) -> bool:
    """Check whether a file is part of Lockstep, in whichever of its packages."""
    path = Path(filename).resolve()
    return any(path.is_relative_to(floor) for floor in _FLOORS)


def _is_library(filename: str) -> bool:
    """Check whether a file is installed: beside this interpreter, or where a ``.pth`` file or an environment is."""
    return filename.startswith(_LIBRARIES) or bool(
        {"site-packages", "dist-packages"} & set(Path(filename).parts)
    )


def user_location(error: BaseException) -> str:
    """Find ``FILE:LINE`` of the user's code that raised ``error`` or called what did; else a library's, ours, or ""."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    theirs = [frame for frame in frames if not _is_ours(frame.filename)]
    own = [frame for frame in theirs if not _is_library(frame.filename)]
    places = own or theirs or frames
    return f"{places[-1].filename}:{places[-1].lineno}" if places else ""


def user_frame(stack: Sequence[StackFrame]) -> StackFrame | None:
    """Find the user's innermost frame in a stack, else ours, else a library's; None in an empty stack.

    Args:
        stack: the innermost frame first.
    """
    frames = [frame for frame in stack if not frame[0].startswith(("<frozen", "/dev/fd/"))]
    own = [frame for frame in frames if is_user_code(frame[0])]
    ours = [frame for frame in frames if _is_ours(frame[0])]
    return next(iter(own or ours or frames), None)


def is_user_code(filename: str) -> bool:
    """Check whether a file is neither a library's nor ours."""
    return not _is_library(filename) and not _is_ours(filename)


def definition_location(function: Any) -> str:
    """Find ``FILE:LINE`` where a function of the user's begins; empty for a library's or ours."""
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None or _is_library(code.co_filename):
        return ""
    ours = _is_ours(code.co_filename)
    return "" if ours else f"{code.co_filename}:{code.co_firstlineno}"

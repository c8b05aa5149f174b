"""Files that the launcher makes are for its user alone; a program that it runs makes its own as the user has said."""

from __future__ import annotations

import os

_PRIVATE = 0o077
_theirs: list[int] = []


def set_private_umask() -> None:
    """Make this process create files for its user alone from now on."""
    _theirs[:] = [os.umask(_PRIVATE)]


def user_umask() -> int:
    """Return the mask that this process was started with."""
    return _theirs[0] if _theirs else _PRIVATE

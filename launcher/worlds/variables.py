"""The variables of one starter: numbers are read as numbers, and what was read is remembered for messages."""

from __future__ import annotations

from collections.abc import Mapping

from .started_world import ForeignWorldError


class Variables:
    """The environment as one reader sees it.

    Args:
        starter: in the words of a message.
        environment: to read from.
    """

    def __init__(self, starter: str, environment: Mapping[str, str]) -> None:
        self.starter = starter
        self._environment = environment
        self.seen: dict[str, str] = {}

    def text(self, *names: str) -> str:
        """Return the value of the first of ``names`` that is set and not empty; else nothing."""
        for name in names:
            if value := self._environment.get(name, "").strip():
                self.seen[name] = value
                return value
        return ""

    def number(self, *names: str) -> int | None:
        """Return the first of ``names`` that is set, as a number from 0 on; None where none is.

        Raises:
            ForeignWorldError: it is not a number.
        """
        value = self.text(*names)
        if not value:
            return None
        if not (value.isascii() and value.isdigit()):
            name = next(name for name in names if name in self.seen)
            raise ForeignWorldError(f"{self.starter}: {name}={value} is not a number")
        return int(value)

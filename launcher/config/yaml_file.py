"""Config files: YAML with the scalars of YAML 1.2, the line of every key, every finding at once.

PyYAML's loaders follow YAML 1.1: ``1e-3`` is a string, ``no`` is False, ``12:30:00`` is 45000, the last of
two equal keys wins and 300 bytes of aliases unfold into millions of values. So only its parser is used here,
and values are built from its events: no tag can call a constructor, and nothing is ever unfolded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from ...data.common import UsageError
from .yaml_text import KeyPath, kind_of, plain_scalar, printable, quoted

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 2**20
MAX_DEPTH = 20
MAX_KEY = 200  # PyYAML itself gives up on keys over 1024 characters
MAX_PROBLEMS = 20  # what fits on one screen

_BROKEN = object()  # stands where a value would be, had its text been acceptable
_INDICATORS = tuple("[{]}\"'!&*|>%@`#,")  # what no plain scalar may begin with
_NO_UNICODE = "text that is not valid Unicode"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class YamlFile:
    """The content of a file, with the line of each value."""

    values: dict[str, Any]
    lines: dict[KeyPath, int]
    """The line, from 1, of every key and list item."""
    problems: list[tuple[int, str]]
    """Line and message of everything that was refused, which is absent from ``values``."""


def read_yaml(path: Path, shown: str = "") -> YamlFile:
    """Read one mapping from a YAML file.

    Args:
        path: the file, UTF-8, at most 1 MiB.
        shown: what messages call the file; else the path.

    Raises:
        UsageError: the file cannot be read, is not YAML or is not a mapping.
    """
    shown = printable(shown or str(path))
    builder = _Builder(_read_text(path, shown))
    values = builder.build()
    if not builder.finished:
        raise UsageError(listing(f"{shown}:{line}: {message}" for line, message in builder.problems))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        if values is not _BROKEN:
            expected = 'the file must hold keys, such as "train: {epochs: 5}"'
            builder.problems.append((1, f"{expected}, not {kind_of(values)}"))
        values = {}
    return YamlFile(values, builder.lines, builder.problems)


def parse_value(text: str, depth: int = 0) -> tuple[Any, list[str]]:
    """Parse a value from the command line by the rules of the file: ``5``, ``[64, 64]``, ``{a: 1}``, ``"5"``.

    Text that is neither quoted nor a list or mapping in brackets is one scalar as a whole, so that ``run #5``
    or ``a: b`` mean what they say.

    Args:
        text: what follows the ``=``.
        depth: how deep in the config the value will stand.

    Returns:
        The value, and what is wrong with it.
    """
    text = text.strip()
    builder = _Builder(text, depth)
    value = builder.build() if text.startswith(_INDICATORS) else builder.plain(text, 1)
    problems = [message for _, message in builder.problems]
    return (None if value is _BROKEN else value), problems


def listing(messages: Any) -> str:
    """Join messages, one per line, and no more than fit on a screen."""
    lines = list(dict.fromkeys(messages))
    more = len(lines) - MAX_PROBLEMS
    return "\n".join(lines[:MAX_PROBLEMS] + ([f"... and {more} more"] if more > 0 else []))


def key_problem(key: str) -> str:
    """Say what is wrong with a key; empty if nothing is."""
    if _SURROGATE.search(key):
        return _NO_UNICODE
    return "" if 0 < len(key) <= MAX_KEY else f"a key must have 1 to {MAX_KEY} characters"


def _read_text(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise UsageError(f"{shown} is a folder, not a config file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{shown}: cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{shown}: larger than 1 MiB; is this a config file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{shown}:{line}: not UTF-8 text") from None


class _Builder:
    """A builder of plain values from the parser's events."""

    def __init__(self, text: str, depth: int = 0) -> None:
        self.text = text
        self.depth = depth
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[tuple[int, str]] = []
        self.finished = False

    def build(self) -> Any:
        """Build the only document; ``finished`` says whether all of the text was read."""
        try:
            self.loader = yaml.SafeLoader(self.text)
            value = self._document()
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            self.problems.append((line, f"the character U+{error.character:04X} is not allowed"))
        except yaml.MarkedYAMLError as error:
            self.problems.append(_syntax_problem(error))
        except (_TooDeepError, ValueError, OverflowError) as error:  # "\UFFFFFFFF" gets as far as chr()
            what = str(error) if isinstance(error, _TooDeepError) else f"not valid YAML: {error}"
            self.problems.append((self.loader.get_mark().line + 1, what))
        else:
            self.finished = True
            return value
        return _BROKEN

    def plain(self, text: str, line: int) -> Any:
        """Build the value of a scalar without quotes."""
        try:
            return self._text(plain_scalar(text), line)
        except ValueError as error:
            return self._refuse(line, str(error))

    def _document(self) -> Any:
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        value = self._node(self._next(), ())
        self._next()  # the document's end
        if not isinstance(event := self._next(), yaml.StreamEndEvent):
            self._refuse(_line(event), "a second document begins here; a config is one document")
        return value

    def _next(self) -> Any:
        return self.loader.get_event()  # type: ignore[no-untyped-call]

    def _node(self, event: Any, path: KeyPath) -> Any:
        line = _line(event)
        self.lines.setdefault(path, line)
        if isinstance(event, yaml.AliasEvent):
            return self._refuse(line, f"aliases (*{event.anchor}) are not allowed; put text in quotes")
        if event.anchor:
            self._refuse(line, f"anchors (&{event.anchor}) are not allowed; put text in quotes")
        value = self._content(event, path)
        if event.tag is not None:
            return self._refuse(line, f"tags ({printable(event.tag)}) are not allowed")
        return value

    def _content(self, event: Any, path: KeyPath) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if self.depth + len(path) >= MAX_DEPTH:
            raise _TooDeepError(f"more than {MAX_DEPTH} levels of nesting")
        return self._mapping(path) if isinstance(event, yaml.MappingStartEvent) else self._sequence(path)

    def _scalar(self, event: Any) -> Any:
        read = self.plain if event.implicit[0] else self._text
        return read(event.value, _line(event))

    def _text(self, value: Any, line: int) -> Any:
        if isinstance(value, str) and _SURROGATE.search(value):
            return self._refuse(line, _NO_UNICODE)
        return value

    def _sequence(self, path: KeyPath) -> Any:
        values: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            values.append(self._node(event, (*path, len(values))))
        return _BROKEN if _BROKEN in values else values

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first: dict[str, int] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key, line = self._key(event, path), _line(event)
            self.lines.setdefault((*path, key), line)
            value = self._node(self._next(), (*path, key))
            if key in first:
                self._refuse(line, f"{quoted(key)} is set twice; first on line {first[key]}")
            elif key:
                first[key] = line
                values[key] = value
        return {key: value for key, value in values.items() if value is not _BROKEN}

    def _key(self, event: Any, path: KeyPath) -> str:
        """Read a key; empty if it was refused."""
        value = self._node(event, (*path, ""))
        if not isinstance(value, str):
            if value is not _BROKEN:
                self._refuse(_line(event), f"a key must be text, not {kind_of(value)}: put it in quotes")
            return ""
        if value == "<<" and event.implicit[0]:
            self._refuse(_line(event), "merge keys (<<) are not allowed")
            return ""
        if problem := key_problem(value):
            self._refuse(_line(event), problem)
            return ""
        return value

    def _refuse(self, line: int, message: str) -> Any:
        self.problems.append((line, message))
        return _BROKEN


class _TooDeepError(Exception):
    """An error that ends parsing at once, since PyYAML's scanner takes quadratic time on deep nesting."""


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _syntax_problem(error: yaml.MarkedYAMLError) -> tuple[int, str]:
    mark = error.problem_mark or error.context_mark
    message = f"not valid YAML: {printable(error.problem or 'unreadable')}"
    if error.context:
        message += f", {printable(error.context)}"
        message += f" that begins on line {error.context_mark.line + 1}" if error.context_mark else ""
    if "'\\t'" in message:
        message += "; indent with spaces, not with tabs"
    elif "while scanning an a" in message or "cannot start any token" in message:
        message += "; put text in quotes"
    return (mark.line + 1 if mark else 1), message

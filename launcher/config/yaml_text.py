"""Keys and values of a config as text: YAML's scalars, and what messages show of them."""

from __future__ import annotations

import re
from typing import Any

KeyPath = tuple[str | int, ...]
"""The keys and list indices that lead to a value."""

_SHOWN = 60  # characters of a value that a message quotes
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_PLAIN_TEXT = re.compile(r"[A-Za-z_./]([A-Za-z0-9_./:$^-]*[A-Za-z0-9_./$^-])?")


def dotted(path: KeyPath) -> str:
    """Format a path as it is written on the command line: ``optimizer.groups[0].lr``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def plain_scalar(text: str) -> Any:
    """Parse a scalar without quotes by YAML 1.2's core schema.

    Raises:
        ValueError: a whole number does not fit 64 bits; what reads it next might not keep its digits.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text) or _BASED.fullmatch(text):
        return _whole_number(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _INFINITE.fullmatch(text) else text


def format_value(value: Any) -> str:
    """Format a value as YAML on one line; ``read_yaml`` and ``parse_value`` read it back unchanged."""
    if isinstance(value, dict):
        items = (f"{format_value(key)}: {format_value(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(format_value, value)) + "]"
    if isinstance(value, str):
        return value if _is_plain(value) else quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value).replace("inf", ".inf").replace("nan", ".nan")


def quoted(text: str) -> str:
    """Put text in double quotes and escape what a terminal or a parser might misread."""
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def printable(text: str) -> str:
    """Escape control characters and line ends, so that text stays on one line."""
    return text if text.isprintable() else "".join(map(_escape, text))


def shortened(text: str) -> str:
    """Shorten a text to what a message has room for."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def kind_of(value: Any) -> str:
    """Name the type of a value in plain words."""
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(value), "a number")


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"


def _is_plain(text: str) -> bool:
    return _PLAIN_TEXT.fullmatch(text) is not None and plain_scalar(text) == text


def _whole_number(text: str) -> int:
    try:
        value = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    except ValueError:  # Python itself refuses decimals of thousands of digits
        value = 2**64
    if abs(value) >= 2**64:
        raise ValueError("a whole number must fit 64 bits")
    return value

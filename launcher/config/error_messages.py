"""Messages about wrong values in a config: pydantic's findings in plain words."""

from __future__ import annotations

import re
from typing import Any

from ...data.common import closest_name
from .yaml_text import KeyPath, dotted, format_value, kind_of, plain_scalar, quoted, shortened

_WORDS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping, such as {{key: value}}",
    "model_type": "must be a mapping, such as {{key: value}}",
    "tuple_type": "must be a list, such as [a, b]",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_long": "must have at most {max_length} values, not {actual_length}",
    "too_short": "must have at least {min_length} values, not {actual_length}",
    "string_too_short": "must not be empty",
}


def wrong_value(path: KeyPath, error: Any) -> str:
    """Describe one of pydantic's findings about a value, with the value.

    Args:
        path: the key.
        error: an entry of ``ValidationError.errors()``.
    """
    if error["type"] == "missing":
        return _missing(path)
    value = error["input"]
    if isinstance(value, (dict, list)):
        instead = f", not {kind_of(value)}" if _is_about_type(error) else ""
        return f"{dotted(path)}: {_rule(error)}{instead}"
    text = quoted(value) if isinstance(value, str) else format_value(value)
    return f"{dotted(path)} = {shortened(text)}: {_rule(error)}{_hint(error)}"


def _missing(path: KeyPath) -> str:
    *outer, last = path
    if isinstance(last, int):
        return f"{dotted(tuple(outer))}: must have at least {last + 1} values"
    return f"{dotted(tuple(outer))}: the key {quoted(last)} is missing"


def _rule(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return "must be one of " + ", ".join(_choices(error))
    if kind in _WORDS:
        return _WORDS[kind].format(**{key: _whole(value) for key, value in context.items()})
    return str(error["msg"]).replace("Input should", "must")


def _whole(value: Any) -> Any:
    """Format limits such as 0.0 and 1.0 without decimals."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _choices(error: Any) -> list[str]:
    return re.findall(r"'([^']*)'", error["ctx"]["expected"])


def _is_about_type(error: Any) -> bool:
    return str(error["type"]).endswith("_type") or error["type"] == "literal_error"


def _hint(error: Any) -> str:
    kind, value = error["type"], error["input"]
    if value is None:
        empty = ", or write {}" if kind in ("model_type", "dict_type") else ""
        return f"; leave the key out for its default{empty}"
    if kind == "string_type":
        return "; put it in quotes"
    if not isinstance(value, str):
        return ""
    if kind == "literal_error" and (close := closest_name(value, _choices(error))):
        return f"; did you mean {close}?"
    if kind in ("int_type", "float_type", "bool_type") and plain_scalar(value) != value:
        return f"; write {value} without the quotes"
    return ""

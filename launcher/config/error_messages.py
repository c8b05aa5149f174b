"""What people read when a config is wrong: pydantic's findings in plain words, and the key that was meant."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, get_args

from ...data.common import did_you_mean
from ...data.config import Section
from .launch_config import LaunchConfig
from .yaml_file import KeyPath, format_value, kind_of, plain_scalar, printable, quoted, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

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

# The names that other tools have for the same thing.
_ALIASES = {
    "name": "use",
    "type": "use",
    "learning_rate": "lr",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "num_workers": "workers",
    "random_seed": "seed",
    "dtype": "precision",
    "amp": "precision",
    "mixed_precision": "precision",
}


def dotted(path: KeyPath) -> str:
    """A path as people write it: ``optimizer.groups[0].lr``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def wrong_value(path: KeyPath, error: Any) -> str:
    """One of pydantic's findings about a value, with the value.

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


def unknown_key(path: KeyPath, *, guess: bool = True) -> str:
    """That there is no such key, and, with ``guess``, which one was meant or could be."""
    message = f'unknown key "{dotted(path)}"'
    key = str(path[-1])
    if "." in key:
        outer, _, inner = key.partition(".")
        return f"{message}: dots do not nest in a file; write {printable(outer)}: {{{printable(inner)}: ...}}"
    if not guess:
        return message
    if meant := _meant(path):
        return f'{message}; did you mean "{meant}"?'
    inside = path[:-1]
    while _section(inside) is None:
        inside = inside[:-1]
    keys = ", ".join(_keys(inside)) or "no keys"
    return f"{message}; {dotted(inside) or 'a config'} has {keys}"


def _section(path: KeyPath) -> type[Section] | None:
    section: type[Section] | None = LaunchConfig
    for part in path:
        section = _inner(section, part)
    return section


def _keys(path: KeyPath) -> list[str]:
    section = _section(path)
    return list(section.model_fields) if section else []


def _meant(path: KeyPath) -> str | None:
    inside, key = path[:-1], str(path[-1])
    keys = _keys(inside)
    key = _ALIASES.get(key, key)
    if key in keys:
        return dotted((*inside, key))
    namesakes = [known for known in _schema() if known.rpartition(".")[2] == key]
    if len(namesakes) == 1:
        return namesakes[0]
    close = did_you_mean(key, keys)
    if close:
        return dotted((*inside, close))
    whole = did_you_mean(dotted(path), _schema()) if inside else None
    return whole or _close_elsewhere(key)


def _close_elsewhere(key: str) -> str | None:
    """A key of another section, if its name is close and belongs to one section only."""
    owners = defaultdict(list)
    for known in _schema():
        owners[known.rpartition(".")[2]].append(known)
    close = did_you_mean(key, owners)
    return owners[close][0] if close and len(owners[close]) == 1 else None


def _schema() -> Iterator[str]:
    """Every key that a config may have, ``train`` and ``train.epochs``."""
    for name in LaunchConfig.model_fields:
        yield name
        yield from (f"{name}.{key}" for key in _keys((name,)))


def _inner(section: type[Section] | None, part: str | int) -> type[Section] | None:
    """The section that a key of a section holds, itself or as items of a list; an index stays where it is."""
    if section is None or isinstance(part, int):
        return section
    field = section.model_fields.get(part)
    kinds = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


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
    """Limits of 0.0 and 1.0 as people write them."""
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
    if kind == "literal_error" and (close := did_you_mean(value, _choices(error))):
        return f"; did you mean {close}?"
    if kind in ("int_type", "float_type", "bool_type") and plain_scalar(value) != value:
        return f"; write {value} without the quotes"
    return ""

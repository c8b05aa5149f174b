"""What a setting may hold, in plain words: its type, its limits, its unit and its default."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ...data.config import MeasuredIn
from ...training.config import Units

_WORDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "`true`, `false`",
    Any: "anything",
    dict: "mapping",
}
_NOUN = re.compile(r"^(?:whole number|number|text|section)")


def type_words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Say what a value of this type is; None is left out, for it is what unset means."""
    origin, parts = get_origin(annotation), get_args(annotation)
    units = next((part for part in metadata if isinstance(part, Units)), None)
    if units or origin is Literal:
        return ", ".join(f"`{choice}`" for choice in (units.examples if units else parts))
    if origin is Annotated:
        return type_words(parts[0], [*parts[1:], *metadata])
    if origin in (Union, UnionType):
        return _either([type_words(part, metadata) for part in parts if part is not NoneType])
    return _list_words(parts) if origin in (tuple, Sequence) else _plain_words(annotation, origin, metadata)


def _plain_words(annotation: Any, origin: Any, metadata: Sequence[Any]) -> str:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    words = _WORDS.get(origin or annotation, "text")
    limits = _limits(metadata) if words.endswith("number") else ""
    return f"{words} {limits}".strip()


def _either(kinds: list[str]) -> str:
    return ", ".join(dict.fromkeys(kinds))


def _list_words(parts: tuple[Any, ...]) -> str:
    count = "list of" if parts[-1] is Ellipsis or len(parts) == 1 else str(len(parts))
    return f"{count} {_NOUN.sub(lambda found: f'{found[0]}s', type_words(parts[0]), count=1)}"


def _limits(metadata: Sequence[Any]) -> str:
    flat = [part for item in metadata for part in getattr(item, "metadata", [item])]
    low = next((f"{part.gt} <" for part in flat if isinstance(part, Gt)), "")
    low = low or next((f"{part.ge} ≤" for part in flat if isinstance(part, Ge)), "")
    high = next((f"< {_power(part.lt)}" for part in flat if isinstance(part, Lt)), "")
    high = high or next((f"≤ {_power(part.le)}" for part in flat if isinstance(part, Le)), "")
    if low and high:
        return f"({low} x {high})"
    signs = {"<": ">", "≤": "≥"}
    return f"{signs[low[-1]]} {low[:-2]}" if low else high


def _power(number: Any) -> str:
    return "2^63" if number == 2**63 else f"{number:,}"


def unit_words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Say what a number is measured in; empty where it has no unit, or where its text names one."""
    return ", ".join(dict.fromkeys(part.unit for part in _measures(annotation, metadata)))


def _measures(annotation: Any, metadata: Sequence[Any]) -> Iterator[MeasuredIn]:
    yield from (part for part in metadata if isinstance(part, MeasuredIn))
    for part in get_args(annotation):
        if get_origin(annotation) is Annotated and isinstance(part, MeasuredIn):
            yield part
        elif get_origin(part) is Annotated:
            yield from _measures(part, ())


def default_words(field: FieldInfo) -> str:
    """Say what holds where a key is left out."""
    if field.default_factory is not None:
        factory: Any = field.default_factory
        empty = factory in (dict, list, tuple)
        return "none" if empty else "" if isinstance(factory, type) else "by `use`"
    return value_words(field.default)


def value_words(value: Any) -> str:
    """Write a value as a config has it."""
    if value is PydanticUndefined:
        return "required"
    if value is None or value == "":
        return "unset"
    if value in ((), {}):
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"

"""Messages about unknown keys in a config, and which key was meant."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel

from ...data.common import closest_name
from .yaml_text import KeyPath, dotted, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def unknown_key(schema: type[BaseModel], path: KeyPath, *, guess: bool = True) -> str:
    """Say that a config of this schema has no such key, and, with ``guess``, which one was meant or could be."""
    message = f'unknown key "{dotted(path)}"'
    key = str(path[-1])
    if "." in key:
        outer, _, inner = key.partition(".")
        return f"{message}: dots do not nest in a file; write {printable(outer)}: {{{printable(inner)}: ...}}"
    if not guess:
        return message
    if meant := _meant(schema, path):
        return f'{message}; did you mean "{meant}"?'
    inside = path[:-1]
    while _section(schema, inside) is None:
        inside = inside[:-1]
    keys = ", ".join(_keys(schema, inside)) or "no keys"
    return f"{message}; {dotted(inside) or 'a config'} has {keys}"


def _section(schema: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    section: type[BaseModel] | None = schema
    for part in path:
        section = _inner(section, part)
    return section


def _keys(schema: type[BaseModel], path: KeyPath) -> list[str]:
    section = _section(schema, path)
    return list(section.model_fields) if section else []


def _meant(schema: type[BaseModel], path: KeyPath) -> str | None:
    inside, key = path[:-1], str(path[-1])
    keys = _keys(schema, inside)
    key = _ALIASES.get(key, key)
    if key in keys:
        return dotted((*inside, key))
    namesakes = [known for known in _every_key(schema) if known.rpartition(".")[2] == key]
    if len(namesakes) == 1:
        return namesakes[0]
    close = closest_name(key, keys)
    if close:
        return dotted((*inside, close))
    whole = closest_name(dotted(path), _every_key(schema)) if inside else None
    return whole or _close_elsewhere(schema, key)


def _close_elsewhere(schema: type[BaseModel], key: str) -> str | None:
    """Find a key of another section whose name is close and belongs to one section only."""
    owners = defaultdict(list)
    for known in _every_key(schema):
        owners[known.rpartition(".")[2]].append(known)
    close = closest_name(key, owners)
    return owners[close][0] if close and len(owners[close]) == 1 else None


def _every_key(schema: type[BaseModel]) -> Iterator[str]:
    """Yield every key that a config may have, such as ``train`` and ``train.epochs``."""
    for name in schema.model_fields:
        yield name
        yield from (f"{name}.{key}" for key in _keys(schema, (name,)))


def _inner(section: type[BaseModel] | None, part: str | int) -> type[BaseModel] | None:
    """Find the section that a key holds, directly or as items of a list; an index stays in its section."""
    if section is None or isinstance(part, int):
        return section
    field = section.model_fields.get(part)
    kinds = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)

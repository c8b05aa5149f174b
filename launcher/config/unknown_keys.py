"""Messages about unknown keys in a config, and which key was meant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from difflib import SequenceMatcher
from typing import Any, get_args

from pydantic import BaseModel

from ...data.common import closest_name
from .foreign_names import ADVICE, SETTINGS
from .yaml_text import KeyPath, dotted, printable

_OWN = ("name", "type", "kind", "class", "fn", "function", "target")
"""Other names of ``use``, in sections that have one."""
_WITH_ARGUMENTS = ("data", "model", "loss", "step")
"""Sections whose ``args`` are those of what ``use`` names."""
_CLOSE = 0.75  # of difflib's ratio: slips of the finger are closer, other words are not


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
    name = _normalised(key)
    if name in ADVICE:
        return f"{message}: {ADVICE[name]}"
    inside = path[:-1]
    if inside and inside[0] in _WITH_ARGUMENTS and len(inside) == 1:
        said = f"the arguments of what {inside[0]}.use names are in {inside[0]}.args"
        return f'{message}; {said}: "{dotted((*inside, "args", key))}"?'
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
    """Find the key that was meant: by another tool's name for it, by its own name elsewhere, or by a slip."""
    inside, key = path[:-1], _normalised(str(path[-1]))
    keys = _keys(schema, inside)
    ways: tuple[Callable[[], str | None], ...] = (
        lambda: _translated(schema, inside, key),
        lambda: _namesake(schema, inside, key),
        lambda: _translated(schema, inside, _slip(key, [*keys, *_OWN] if "use" in keys else keys)),
        lambda: None if key in ADVICE else _longer(inside, key, keys),
        lambda: None if key in ADVICE else _close_elsewhere(schema, inside, key),
    )
    return next((found for way in ways if (found := way())), None)


def _normalised(key: str) -> str:
    return key.strip("-").lower().replace("-", "_")


def _translated(schema: type[BaseModel], inside: KeyPath, key: str | None) -> str | None:
    """Return the key that a name is here: in its own section before any other."""
    keys = _keys(schema, inside)
    if key in keys:
        return dotted((*inside, key))
    if key in _OWN and "use" in keys:
        return dotted((*inside, "use"))
    meant = SETTINGS.get(key or "", [])
    here = [known for known in meant if inside and known.startswith(f"{dotted(inside)}.")]
    if here or len(meant) == 1:
        return (here or meant)[0]
    return None


def _namesake(schema: type[BaseModel], inside: KeyPath, key: str) -> str | None:
    """Find the one key of this name in another section; arguments may well be called as a section is."""
    every = (known for known in _every_key(schema) if known.rpartition(".")[2] == key)
    found = [
        known
        for known in every
        if not known.startswith(("slurm.", "wandb.", "metrics.")) or key not in ADVICE
    ]
    if len(found) != 1 or (found[0] == key and inside[:1] and inside[0] in _WITH_ARGUMENTS):
        return None
    return found[0]


def _slip(key: str, keys: Iterable[str]) -> str | None:
    """Find the name that was meant by one with a slip of the finger."""
    close = closest_name(key, keys)
    return close if close and SequenceMatcher(None, key, _normalised(close)).ratio() >= _CLOSE else None


def _longer(inside: KeyPath, key: str, keys: list[str]) -> str | None:
    """Find the one key of the section that has this name among its words."""
    found = [known for known in keys if key in known.split("_")]
    return dotted((*inside, found[0])) if len(found) == 1 else None


def _close_elsewhere(schema: type[BaseModel], inside: KeyPath, key: str) -> str | None:
    """Find a key whose section has a slip, or one of another section whose name is close and in that section only."""
    section = _slip(str(inside[0]), _keys(schema, ())) if len(inside) == 1 else None
    if section is not None and section != inside[0]:
        close = _slip(key, _keys(schema, (section,)))
        return f"{section}.{close}" if close else None
    if inside and inside[0] in _WITH_ARGUMENTS:
        return None
    owners = defaultdict(list)
    for known in _every_key(schema):
        if not known.startswith("slurm."):
            owners[known.rpartition(".")[2]].append(known)
    close = _slip(key, owners)
    return owners[close][0] if close and len(owners[close]) == 1 else None


def _every_key(schema: type[BaseModel]) -> Iterator[str]:
    """Yield every key that a config may have, such as ``train`` and ``train.epochs``."""
    for name in schema.model_fields:
        yield name
        if name == "optimizers":  # the same keys as in ``optimizer``
            continue
        yield from (f"{name}.{key}" for key in _keys(schema, (name,)))


def _inner(section: type[BaseModel] | None, part: str | int) -> type[BaseModel] | None:
    """Find the section that a key holds, directly or as items of a list; an index stays in its section."""
    if section is None or isinstance(part, int):
        return section
    field = section.model_fields.get(part)
    return _schema_in(field.annotation) if field else None


def _schema_in(annotation: Any) -> type[BaseModel] | None:
    """Find the section in a type, such as an optional one or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _schema_in(part))), None)

"""``launch config show`` and ``why``: a config with its origins, and one value with its meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...data.common import UsageError
from ..config import LaunchConfig, ResolvedConfig, format_value, printable, to_yaml, unknown_key
from ..console import print_json, print_results
from .components import find_argument
from .option_list import ConfigOption, find_option

_WORDS = {"type": "type", "default": "default", "unit": "unit", "where": "of", "meaning": "meaning"}


@dataclass(frozen=True)
class _Explained:
    value: Any
    origin: str
    option: ConfigOption


def show_config(resolved: ResolvedConfig, *, as_json: bool) -> int:
    """Print every value of a config with its origin; the exit status."""
    if as_json:
        document = {"name": resolved.name, "config": _values(resolved), "origins": resolved.origins}
        print_json({"schema_version": 1, **document})
    else:
        print_results(to_yaml(resolved).splitlines())
    return 0


def explain_key(resolved: ResolvedConfig, key: str, *, as_json: bool) -> int:
    """Print what a key of a config is, where its value came from and what it means; the exit status.

    Raises:
        UsageError: no config has such a key.
    """
    path = tuple(key.strip().split("."))
    found = _explain(resolved, path)
    if as_json:
        print_json({"schema_version": 1, "key": key, **_document(found)})
    else:
        inside = _lines_inside(resolved, path) if isinstance(found.value, dict) else []
        print_results([*_lines(key, found), *inside])
    return 0


def _explain(resolved: ResolvedConfig, path: tuple[str, ...]) -> _Explained:
    values = _values(resolved)
    option = find_option(path) or _argument(values, path)
    if option is None:
        raise UsageError(unknown_key(LaunchConfig, path), "`launch config reference` lists every key")
    return _Explained(_value_at(values, path), _origin(resolved, path), option)


def _values(resolved: ResolvedConfig) -> dict[str, Any]:
    slurm = resolved.slurm.model_dump(mode="json")
    return {**resolved.config.model_dump(mode="json"), "slurm": slurm}


def _argument(values: dict[str, Any], path: tuple[str, ...]) -> ConfigOption | None:
    """Describe an argument of what ``use`` names, as far as that is known."""
    *section, args, name = ("", "", *path)
    holder = _value_at(values, tuple(filter(None, section)))
    if args != "args" or not isinstance(holder, dict):
        return None
    found = find_argument(path[0], str(holder.get("use")), name)
    if found is None and name not in (holder.get("args") or {}):
        return None
    known = (
        (found.type, found.default, found.meaning)
        if found
        else ("", "", f"An argument of {holder.get('use')}.")
    )
    return ConfigOption(path, known[0], known[1], "", "", known[2], may_change=False)


def _value_at(values: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        else:
            values = values.get(part) if isinstance(values, dict) else None
    return values


def _origin(resolved: ResolvedConfig, path: tuple[str, ...]) -> str:
    """Return the origin of a value, else of what holds it."""
    around = (".".join(path[:depth]) for depth in range(len(path), 0, -1))
    return next((resolved.origins[key] for key in around if key in resolved.origins), "")


def _document(found: _Explained) -> dict[str, Any]:
    words = {name: getattr(found.option, key) for key, name in _WORDS.items()}
    return {
        "value": found.value,
        "origin": found.origin,
        **words,
        "may_change_on_resume": found.option.may_change,
    }


def _lines(key: str, found: _Explained) -> Iterator[str]:
    option = found.option
    if not isinstance(found.value, dict):
        shown = "unset" if found.value is None else printable(format_value(found.value))
        yield f"{printable(key)} = {shown}" + (f"  # {printable(found.origin)}" if found.origin else "")
    else:
        yield printable(key)
    for field, name in _WORDS.items():
        if text := getattr(option, field):
            yield f"  {name:<11}{printable(text.replace('`', ''))}"
    if not option.type.startswith("section"):
        yield f"  {'on resume':<11}{'may change' if option.may_change else 'another value makes it another run'}"


def _lines_inside(resolved: ResolvedConfig, path: tuple[str, ...]) -> Iterator[str]:
    inside = f"{'.'.join(path)}."
    values = _values(resolved)
    for key, origin in resolved.origins.items():
        if key.startswith(inside):
            value = _value_at(values, tuple(key.split(".")))
            yield f"  {printable(key)} = {printable(format_value(value))}  # {printable(origin)}"

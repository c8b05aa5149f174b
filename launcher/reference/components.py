"""What a config can name, and the arguments of each: data sets, models, losses, metrics, optimizers, schedules."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...data.common import argument_docstrings, functions_in, keys_of, summary_of
from ...training.config import OPTIMIZERS, SCHEDULES, TRACKERS
from ..process import ask_child
from .value_words import value_words

_TRAINING = Path(__file__).resolve().parents[2] / "training"
_GIVEN = ("inputs", "outputs", "output", "target")
"""Arguments that are not the user's to set."""
_TYPES = {
    "int": "whole number",
    "float": "number",
    "bool": "`true`, `false`",
    "Sequence[int]": "list of whole numbers",
    "int | None": "whole number",
    "str | float | None": "text, number",
    "str | Sequence[float] | None": "text, list of numbers",
    "str | None": "text",
    "float | Sequence[float] | None": "number, list of numbers",
    "tuple[str, ...] | None": "list of texts",
    "str | tuple[str, ...] | None": "text, list of texts",
    "Mapping[str, str] | None": "mapping of texts",
    "Mapping[str, Any] | None": "mapping",
    "tuple[int, int] | None": "2 whole numbers",
    "Average": "`macro`, `micro`, `weighted`, `binary`",
}


@dataclass(frozen=True)
class ComponentArgument:
    """An argument of something that ``use`` names."""

    name: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Component:
    """Something that ``use`` names."""

    name: str
    meaning: str
    arguments: tuple[ComponentArgument, ...] = ()
    note: str = ""
    """What holds where keys are left out, or which must be given."""


def find_argument(section: str, use: str, name: str) -> ComponentArgument | None:
    """Find an argument of what a section's ``use`` names; None of your own, which only its source describes."""
    listed: dict[str, Callable[[], tuple[Component, ...]]] = {
        "data": data_sources,
        "model": models,
        "loss": losses,
        "metrics": metrics,
    }
    every = {component.name: component for component in listed[section]()} if section in listed else {}
    arguments = every[use].arguments if use in every else ()
    return next((argument for argument in arguments if argument.name == name), None)


@cache
def data_sources() -> tuple[Component, ...]:
    """List the built-in data sets."""
    answer = ask_child("lockstep.data.print_sources", {}, "list of data sets")
    return tuple(
        Component(source["name"], source["meaning"], tuple(map(_source_argument, source["arguments"])))
        for source in answer["sources"]
    )


def _source_argument(found: dict[str, Any]) -> ComponentArgument:
    return ComponentArgument(
        found["name"], _TYPES[found["type"]], value_words(found["default"]), found["meaning"]
    )


def models() -> tuple[Component, ...]:
    """List the built-in models."""
    return tuple(_functions(_TRAINING / "components" / "models.py", "MODELS"))


def losses() -> tuple[Component, ...]:
    """List the built-in losses."""
    return tuple(_functions(_TRAINING / "losses" / "losses.py", "LOSSES"))


def metrics() -> tuple[Component, ...]:
    """List the built-in metrics."""
    return tuple(_functions(_TRAINING / "metrics" / "metrics.py", "METRICS"))


def _functions(path: Path, table: str) -> Iterator[Component]:
    functions = functions_in(path.parent)
    for name in keys_of(path, table):
        yield Component(name, summary_of(functions[name]), tuple(_arguments(functions[name])))


def _arguments(function: ast.FunctionDef) -> Iterator[ComponentArgument]:
    given = function.args
    meanings = argument_docstrings(function)
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        if argument.arg not in _GIVEN:
            kind = _TYPES[ast.unparse(argument.annotation)] if argument.annotation else "anything"
            value = value_words(ast.literal_eval(default)) if default else "required"
            yield ComponentArgument(argument.arg, kind, value, meanings.get(argument.arg, ""))


def optimizers() -> tuple[Component, ...]:
    """List the built-in optimizers; their arguments are keys of the section."""
    return tuple(
        Component(name, f"`{one.torch_class.replace(':', '.')}`", _keys(one.keys), f"`lr` {one.lr:g}")
        for name, one in OPTIMIZERS.items()
    )


def schedules() -> tuple[Component, ...]:
    """List the schedules; their arguments are keys of the section."""
    needs = {name: ", ".join(f"`{key}`" for key in one.required) for name, one in SCHEDULES.items()}
    return tuple(
        Component(name, one.meaning, _keys(one.keys), f"{needs[name]} must be given" if one.required else "")
        for name, one in SCHEDULES.items()
    )


def trackers() -> tuple[Component, ...]:
    """List the trackers that come with Lockstep."""
    extra = {
        name: f"; `pip install 'lockstep-train[{one.extra}]'`" for name, one in TRACKERS.items() if one.extra
    }
    return tuple(Component(name, f"{one.title}{extra.get(name, '')}") for name, one in TRACKERS.items())


def _keys(names: tuple[str, ...]) -> tuple[ComponentArgument, ...]:
    return tuple(ComponentArgument(name, "", "", "") for name in names)

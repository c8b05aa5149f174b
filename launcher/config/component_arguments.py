"""The arguments of a model, a loss, a step or a metric against the signature of what takes them, read from its source.

Nothing runs here.

What the source does not tell, a decorated function or one that is imported from elsewhere, is left to the ranks.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...data.common import closest_name
from ...training.config import RunConfig
from .yaml_text import KeyPath, printable

_TRAINING = Path(__file__).resolve().parents[2] / "training"
_BUILT_IN = {
    "model": [_TRAINING / "components" / "models.py"],
    "loss": [_TRAINING / "losses" / "losses.py"],
    "metrics": [_TRAINING / "metrics" / "class_metrics.py", _TRAINING / "metrics" / "score_metrics.py"],
}
_GIVEN = {
    "model": {"inputs", "outputs"},
    "loss": {"output", "target"},
    "step": set[str](),
    "metrics": set[str](),
}
"""What a built-in one is given besides its ``args``."""
_LIKE = {("loss", "auto"): "cross_entropy"}
"""What chooses among several by the data, and the one of them that takes arguments."""
_FIRST = {"model": 0, "loss": 2, "step": 2, "metrics": 2}
"""How many arguments a user's own is given by position: a loss or a metric compares an output with a target, a step
gets model and batch."""


@dataclass(frozen=True)
class _Signature:
    names: tuple[str, ...]
    """Of the arguments that ``args`` may hold."""
    required: tuple[str, ...]
    takes_any: bool


def wrong_components(config: RunConfig, base: Path) -> Iterator[tuple[KeyPath, str]]:
    """Yield where arguments of the model, the loss, the step or a metric are wrong, and a message.

    Args:
        config: the whole.
        base: its folder.
    """
    frozen = config.model.frozen
    sections: list[tuple[KeyPath, Any, Mapping[str, Any]]] = [
        (("model",), config.model, {}),
        *((("model", "frozen", name), model, {}) for name, model in frozen.items()),
        (("loss",), config.loss, {}),
        *(
            (("step", at) if isinstance(config.step, tuple) else ("step",), step, frozen)
            for at, step in enumerate(config.steps)
        ),
        *((("metrics", at), metric, {}) for at, metric in enumerate(config.metrics or ())),
    ]
    for path, chosen, given in sections:
        args = {**chosen.args, **given}
        for key, message in wrong_arguments(str(path[0]), chosen.use, args, base):
            yield (*path, "args", key) if key else (*path, "args"), message
    if frozen and config.step is None:
        yield (
            ("model", "frozen"),
            "model.frozen: only a step is given such models; write one: step: ./file.py:name",
        )


def wrong_arguments(section: str, use: str, args: Mapping[str, Any], base: Path) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with ``args`` of a component: a key, empty for all of them, and a message.

    Args:
        section: ``model``, ``loss``, ``step`` or ``metrics``.
        use: what it names.
        args: what it is to be called with.
        base: the folder of the config file.
    """
    signature = _signature(section, use, base)
    if signature is None:
        return
    shown = printable(use)
    for key in args:
        if key not in signature.names and not signature.takes_any:
            guess = closest_name(key, signature.names)
            takes = f"it takes {', '.join(signature.names) or 'no arguments'}"
            meant = f"did you mean {guess}? " if guess else ""
            yield key, f"{section}.args.{printable(key)}: {shown} has no such argument; {meant}{takes}"
    missing = [name for name in signature.required if name not in args]
    if missing:
        yield "", f"{section}.args: {shown} needs {', '.join(missing)}"


def _signature(section: str, use: str, base: Path) -> _Signature | None:
    place, _, name = use.rpartition(":")
    if not place:
        return None if name.startswith("_") else _built_in(section, _LIKE.get((section, name), name))
    path = _file_of(place, base)
    return _read(path, name, set(), _FIRST[section]) if path else None


@cache
def _built_in(section: str, name: str) -> _Signature | None:
    """Read one of Lockstep's own, once for all points of a sweep."""
    found = (_read(path, name, _GIVEN[section], 0) for path in _BUILT_IN[section])
    return next((signature for signature in found if signature is not None), None)


def _read(path: Path, name: str, given: set[str], first: int) -> _Signature | None:
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):  # the rank says what is wrong with it
        return None
    function = _definition(module.body, name)
    if function is None or function.args.posonlyargs:
        return None
    return _of(function.args, given, 0 if _is_class(module.body, name) else first)


def _file_of(place: str, base: Path) -> Path | None:
    """Return the file of ``./file.py`` or of a module that lies beside the config; None for any other."""
    if place.endswith(".py"):
        return base / Path(place).expanduser()
    path = base.joinpath(*place.split(".")).with_suffix(".py")
    return path if path.is_file() else None


def _definition(body: list[ast.stmt], name: str) -> ast.FunctionDef | None:
    """Find the one plain function of this name, or the constructor of the class."""
    found = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name]
    if len(found) != 1 or found[0].decorator_list:
        return None
    if isinstance(found[0], ast.FunctionDef):
        return found[0]
    constructor = _definition(found[0].body, "__init__")
    if constructor is not None:
        constructor.args.args = constructor.args.args[1:]
    return constructor


def _is_class(body: list[ast.stmt], name: str) -> bool:
    """Tell whether an instance is made with the arguments, which is then called."""
    return any(isinstance(node, ast.ClassDef) and node.name == name for node in body)


def _of(arguments: ast.arguments, given: set[str], first: int) -> _Signature:
    positional = arguments.args[first:]
    without = positional[: max(0, len(positional) - len(arguments.defaults))]
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    required = [one.arg for one in without] + [one.arg for one, default in keywords if default is None]
    names = [one.arg for one in (*positional, *arguments.kwonlyargs)]
    return _Signature(
        tuple(name for name in names if name not in given),
        tuple(name for name in required if name not in given),
        takes_any=arguments.kwarg is not None,
    )

"""The config of a run: defaults, then a recipe or file, then ``key=value``; checked as a whole.

Every value remembers where it came from, and every mistake is reported at once, each with its place.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ... import configs
from ...data.common import UsageError, closest_name
from ...training.config import IN_TURN, ONE_STEP, RunConfig, requested_mode, requested_settings, undirected
from ..slurm import time_limit_note
from .component_arguments import wrong_components
from .dropped_settings import drop_orphans, drop_other_data, drop_other_length
from .error_messages import wrong_value
from .launch_config import LaunchConfig, ResolvedConfig
from .partial_config import Origin, Override, PartialConfig, complain, forget, place_of, short_origin
from .unknown_keys import unknown_key
from .yaml_file import key_problem, listing, parse_value, read_yaml
from .yaml_text import KeyPath, dotted, format_value, kind_of, printable, quoted, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEFAULT_RECIPE = "digits"
_SUFFIXES = (".yaml", ".yml")
_WIDEST = 48  # values longer than this push their own comment aside, not everybody's
_GUESSES = 100  # unknown keys that get a suggestion; a screen shows fewer, and each takes 0.3 ms
_SECRET = re.compile(
    r"(api_?key|access_?key|secret_?key|private_?key|token|passw(or)?d|secret)$", re.IGNORECASE
)


def resolve(name: str | None, overrides: Sequence[str] = ()) -> ResolvedConfig:
    """Read, override and check a config.

    Args:
        name: a packaged recipe, a YAML file, or None for the recipe ``digits``.
        overrides: ``section.key=value``; the value follows the rules of the file.

    Raises:
        UsageError: there is no such config, or it is wrong; the message has one line for every mistake.
    """
    source, shown, packaged = _find(DEFAULT_RECIPE if name is None else name)
    draft = _from_file(source, shown)
    _override(draft, overrides)
    _fill_from_environment(draft)
    _refuse_values(draft)
    _refuse_two_lengths(draft)
    base = Path.cwd() if packaged else source.parent
    config = _validate(draft, base)
    _note_bare_time(draft)
    return ResolvedConfig(
        config=RunConfig.model_validate({key: getattr(config, key) for key in RunConfig.model_fields}),
        slurm=config.slurm,
        origins=_origins(draft, config),
        name=source.stem,
        base=base,
        source=source,
        notes=tuple(draft.notes),
    )


def _origins(draft: PartialConfig, config: LaunchConfig) -> dict[str, str]:
    """Return dotted path to origin, for every value; also for what was decided by the name of a metric."""
    origins = {".".join(path): short_origin(draft, path) for path, _ in _leaves(config.model_dump(), ())}
    for key, section in config.monitors().items():
        if section.mode == "auto":
            declared = config.declared_direction(section.monitor)
            why = "metrics" if declared else f"the name {section.monitor}"
            origins[f"{key}.mode"] += f": {config.direction_of(section.monitor)}, by {why}"
    if config.wandb.mode == "auto" and (asked := requested_mode(os.environ)):
        origins["wandb.mode"] += f": {asked[0]}, by {asked[1]}"
    return origins


def recipes() -> dict[str, Path]:
    """Find the packaged recipes, by name."""
    folder = Path(configs.__path__[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def to_yaml(resolved: ResolvedConfig) -> str:
    """Format the whole config as YAML with each value's origin in a comment; it reads back as the same config."""
    left_out = None if resolved.config.step is None else {"loss"}
    values = {**resolved.config.model_dump(exclude=left_out), "slurm": resolved.slurm.model_dump()}
    lines = list(_yaml_lines(values, (), resolved.origins))
    width = min(_WIDEST, max(len(text) for text, origin in lines if origin))
    body = (f"{text:<{width}}  # {origin}" if origin else text for text, origin in lines)
    return "\n".join((f"# {printable(resolved.name)}: every value, and where it came from", *body, ""))


def _find(name: str) -> tuple[Path, str, bool]:
    """Find the file, what messages call it, and whether it is a packaged recipe."""
    packaged = recipes()
    if name in packaged:
        return packaged[name], f"{name}.yaml", True
    path = Path(name)
    if path.suffix == ".py":
        raise UsageError(
            f"{printable(name)}: a script, not a config",
            f"`launch run {printable(name)}` runs it; a config is a YAML file, which may name functions of it",
        )
    if not (path.suffix in _SUFFIXES or "/" in name or _is_file(path)):
        raise _unknown_recipe(name, packaged)
    if not _exists(path):
        near = closest_name(path.name, _neighbours(path))
        hint = f"did you mean {path.parent / near}? " if near else ""
        raise UsageError(f"{printable(name)}: there is no such file", hint + _choices(packaged))
    return path.absolute(), name, False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # nothing is known about it: reading it will say why
        return True


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _unknown_recipe(name: str, packaged: dict[str, Path]) -> UsageError:
    near = closest_name(name, [*packaged, *_neighbours(Path(name))])
    hint = f"did you mean {quoted(near)}? " if near else ""
    return UsageError(f"unknown config {quoted(name)}", hint + _choices(packaged))


def _choices(packaged: dict[str, Path]) -> str:
    return "a config is a YAML file or one of the recipes " + ", ".join(packaged)


def _neighbours(path: Path) -> list[str]:
    try:
        return [near.name for near in sorted(path.parent.iterdir()) if near.suffix in _SUFFIXES]
    except (OSError, ValueError):
        return []


def _from_file(source: Path, shown: str) -> PartialConfig:
    file = read_yaml(source, shown)

    def origin(line: int) -> Origin:
        return Origin((0, line), f"{printable(shown)}:{line}", f"{printable(source.name)}:{line}")

    origins: dict[KeyPath, Origin] = {(): origin(1)}
    origins |= {path: origin(line) for path, line in file.lines.items()}
    problems = [(origin(line), message) for line, message in file.problems]
    draft = PartialConfig(file.values, origins, problems)
    if not file.values and not problems:
        draft.notes.append(f"{printable(shown)} says nothing: every setting has its default")
    return draft


def _override(draft: PartialConfig, arguments: Sequence[str]) -> None:
    overrides = [found for index, text in enumerate(arguments) if (found := _parse(draft, index, text))]
    drop_orphans(draft, overrides, LaunchConfig().model_dump())
    drop_other_length(draft, overrides)
    drop_other_data(draft, overrides)
    for override in overrides:
        _apply(draft, override)


def _fill_from_environment(draft: PartialConfig) -> None:
    """Take what W&B's own variables say for what nothing else does."""
    section = draft.values.setdefault("wandb", {})
    if isinstance(section, dict):
        for key, (value, variable) in requested_settings(os.environ).items():
            if key not in section:
                section[key] = value
                label = f"environment {variable}"
                draft.origins |= dict.fromkeys(_paths(value, ("wandb", key)), Origin((2, 0), label, label))


def _parse(draft: PartialConfig, index: int, text: str) -> Override | None:
    key, equals, raw = (part.strip() for part in text.partition("="))
    path = tuple(key.split("."))
    value, problems = parse_value(raw, len(path))
    secret = any(_is_secret(part) for part in path) or any(True for _ in _secrets(value, ()))
    label = f"override {printable(key if secret or not equals else f'{key}={shortened(raw)}')}"
    origin = Origin((1, index), label, label, path)
    if not equals:
        problems = ['expected key=value, such as "train.epochs=5"']
    elif not all(path):
        problems = ["a key is missing before the = or between two dots"]
    problems += [problem for part in path if part and (problem := key_problem(part))]
    draft.problems += [(origin, message) for message in problems]
    return None if problems else Override(path, value, origin)


def _apply(draft: PartialConfig, override: Override) -> None:
    *outer, last = override.path
    node = draft.values
    for depth, key in enumerate(outer, start=1):
        if key not in node:
            node[key] = {}
            draft.origins[override.path[:depth]] = override.origin
        node = node[key]
        if not isinstance(node, dict):
            inside = dotted(override.path[:depth])
            draft.problems.append((override.origin, f"{inside} is {kind_of(node)}; set the whole of it"))
            return
    node[last] = override.value
    forget(draft, override.path)
    draft.origins |= dict.fromkeys(_paths(override.value, override.path), override.origin)


def _refuse_values(draft: PartialConfig) -> None:
    """Refuse what no key may hold, whatever it is called."""
    for path in _secrets(draft.values, ()):
        advice = "a config is kept with its run; set it in the environment instead"
        complain(draft, path, f"{dotted(path)} looks like a secret: {advice}")
    for path, value in _scalars(draft.values, ()):
        if isinstance(value, float) and not math.isfinite(value):
            complain(draft, path, f"{dotted(path)} = {value}: must be a finite number")


def _refuse_two_lengths(draft: PartialConfig) -> None:
    """Refuse a run that is to end after a number of steps, and after a number of epochs."""
    given = draft.values.get("train")
    if isinstance(given, dict) and given.get("steps") is not None and given.get("epochs") is not None:
        what = "train.steps stands in the place of train.epochs, which is set, too: leave one of them out"
        complain(draft, ("train", "steps"), what)


def _note_bare_time(draft: PartialConfig) -> None:
    time = (draft.values.get("slurm") or {}).get("time")
    if note := time_limit_note(time, place_of(draft, ("slurm", "time")).short):
        draft.notes.append(note)


def _validate(draft: PartialConfig, base: Path) -> LaunchConfig:
    try:
        # In JSON pydantic is strict about numbers and text and yet takes a list for a tuple.
        config = LaunchConfig.model_validate_json(json.dumps(draft.values), strict=True)
    except ValidationError as error:
        for index, found in enumerate(error.errors(include_url=False)):
            _translate(draft, found, guess=index < _GUESSES)
    else:
        _refuse_undirected(draft, config)
        _refuse_arguments(draft, config, base)
    if draft.problems:
        problems = sorted(draft.problems, key=lambda problem: problem[0].order)
        raise UsageError(listing(f"{origin.where}: {message}" for origin, message in problems))
    return config


def _refuse_arguments(draft: PartialConfig, config: LaunchConfig, base: Path) -> None:
    """Refuse arguments that no signature takes, and a loss together with a step."""
    if config.step is not None and "loss" in draft.values:
        complain(draft, ("loss",), "loss: the step computes it; leave one of the two sections out")
    for path, message in wrong_components(config, base):
        complain(draft, path, message)


def _refuse_undirected(draft: PartialConfig, config: LaunchConfig) -> None:
    """Refuse to keep the best by a metric of which nobody knows whether less or more is better."""
    measured = {f"val/{metric.name}" for metric in config.metrics or ()}  # any other is refused as such
    for key, section in config.with_directions().monitors().items():
        if section.direction is None and section.monitor in measured:
            complain(draft, (*key.split("."), "monitor"), "; ".join(undirected(section, key)))


def _translate(draft: PartialConfig, found: Any, *, guess: bool) -> None:
    path: KeyPath = tuple(part for part in found["loc"] if part not in (ONE_STEP, IN_TURN))
    if not path:  # sections that do not go together
        complain(draft, path, str(found["ctx"]["error"]))
        return
    if found["type"] == "default_factory_not_called":  # it waits for a value that has its own finding
        return
    if found["type"] != "extra_forbidden":
        complain(draft, path, wrong_value(path, found))
        return
    asked = place_of(draft, path).path  # of trian.epochs=5 pydantic sees only trian
    complain(draft, path, unknown_key(LaunchConfig, max(path, asked, key=len), guess=guess))


def _is_secret(key: str | int) -> bool:
    return isinstance(key, str) and _SECRET.search(key.replace("-", "_")) is not None


def _secrets(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Find keys named like a secret; a switch such as ``class_token: true`` holds none."""
    if path and _is_secret(path[-1]) and value is not None and not isinstance(value, bool):
        yield path
        return
    for part, item in _items(value):
        yield from _secrets(item, (*path, part))


def _paths(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    yield path
    for part, item in _items(value):
        yield from _paths(item, (*path, part))


def _scalars(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if not isinstance(value, (dict, list)):
        yield path, value
    for part, item in _items(value):
        yield from _scalars(item, (*path, part))


def _items(value: Any) -> list[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def _leaves(values: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield what has a line of its own in the resolved config: all but mappings that are not empty."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _yaml_lines(
    values: dict[str, Any], path: tuple[str, ...], origins: dict[str, str]
) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        start = "  " * len(path) + format_value(key)
        if isinstance(value, dict) and value:
            yield f"{start}:", ""
            yield from _yaml_lines(value, (*path, key), origins)
        else:
            yield f"{start}: {format_value(value)}", origins[".".join((*path, key))]

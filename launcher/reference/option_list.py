"""Every option of a config, collected from the models that check it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ...data.common import field_docstrings, one_line
from ...training.config import OPTIMIZERS, SCHEDULES, may_change, optimizer_keys, unsupported_schedule_keys
from ..config import LaunchConfig
from ..slurm import SlurmConfig, declared_options
from .value_words import default_words, type_words, unit_words, value_words

NAMED = "NAME"
"""In the place of a name that the user gives."""
ITEM = "[]"
"""In the place of a position in a list."""
Path = tuple[str, ...]


@dataclass(frozen=True)
class ConfigOption:
    """An option, as the reference describes it."""

    path: Path
    type: str
    default: str
    unit: str
    where: str
    """Which optimizers or schedules have it; empty where nothing limits it."""
    meaning: str
    may_change: bool
    """Whether a run may be resumed with another value of it."""

    @property
    def key(self) -> str:
        """Return its dotted name: ``optimizers.NAME.match``, ``optimizer.groups[].lr``."""
        return ".".join(self.path).replace(f".{ITEM}", ITEM)


@dataclass(frozen=True)
class ConfigSectionOptions:
    """A section with its options."""

    path: Path
    meaning: str
    options: tuple[ConfigOption, ...]
    like: str = ""
    """Another section that describes keys which this one has, too."""
    shared: tuple[str, ...] = ()
    """These keys."""

    @property
    def key(self) -> str:
        """Return its dotted name, as of an option; empty for the whole config."""
        return ".".join(self.path).replace(f".{ITEM}", ITEM)


@cache
def config_sections() -> tuple[ConfigSectionOptions, ...]:
    """List every section of a config, the config itself first, each before what is inside it."""
    return tuple(_sections(LaunchConfig, (), {}))


def config_models() -> list[type[BaseModel]]:
    """List the models of all sections."""
    seen: dict[type[BaseModel], str] = {}
    list(_sections(LaunchConfig, (), seen))
    return list(seen)


def config_options() -> dict[Path, ConfigOption]:
    """Return every option by its path."""
    return {option.path: option for section in config_sections() for option in section.options}


def find_option(path: Path) -> ConfigOption | None:
    """Find the option that a path of a config is, names and positions of its own in it."""
    options = config_options()
    found = next((one for known, one in options.items() if _fits(known, path)), None)
    described = None if found else next(_described_elsewhere(path), None)
    found = find_option(described) if described else found
    return replace(found, path=path) if found else None


def _described_elsewhere(path: Path) -> Iterator[Path]:
    """Yield where the reference describes an option instead: ``optimizer.lr`` of ``optimizers.g.lr``."""
    for section in config_sections():
        inside, rest = path[: len(section.path)], path[len(section.path) :]
        if section.like and rest and rest[0] in section.shared and _fits(section.path, inside):
            yield (*section.like.split("."), *rest)
    for option in config_options().values():
        inside, rest = path[: len(option.path)], path[len(option.path) :]
        if option.type.startswith("as `") and rest and _fits(option.path, inside):
            yield (option.type[4:-1], *rest)


def _fits(known: Path, path: Path) -> bool:
    if len(known) != len(path):
        return False
    pairs = zip(known, path, strict=True)
    return all(a in (b, NAMED) or (a == ITEM and b.isdigit()) for a, b in pairs)


def _sections(
    model: type[BaseModel], path: Path, seen: dict[type[BaseModel], str], meaning: str = ""
) -> Iterator[ConfigSectionOptions]:
    """Yield a section and those inside it; what another section has had under its own key is named only."""
    like, shared = _shared(model, seen) if path and path[-1] in (NAMED, ITEM) else ("", ())
    seen[model] = ".".join(path)
    fields = {key: field for key, field in model.model_fields.items() if key not in shared}
    options = tuple(_option(model, path, key, field) for key, field in fields.items())
    yield ConfigSectionOptions(path, meaning or _own_meaning(model), options, like, shared)
    for key, field in fields.items():
        for inside, step in _models_in(field.annotation):
            if inside not in seen and not (path and inside in _of_the_whole()):
                said = "" if step else field_docstrings(model).get(key, "")
                yield from _sections(inside, (*path, key, *step), seen, said)


@cache
def _of_the_whole() -> dict[type[BaseModel], str]:
    """Return the models that are a section of the config itself, each with its key."""
    fields = LaunchConfig.model_fields.items()
    return {model: key for key, field in fields for model, step in _models_in(field.annotation) if not step}


def _own_meaning(model: type[BaseModel]) -> str:
    return one_line((model.__doc__ or "").partition("\n\n")[0])


def _shared(model: type[BaseModel], seen: dict[type[BaseModel], str]) -> tuple[str, tuple[str, ...]]:
    """Find a section that has fields from the same class, and these fields."""
    for base in model.__mro__:
        keys = tuple(getattr(base, "model_fields", ()))
        for other, key in seen.items():
            if keys and key and issubclass(other, base):
                return key, keys
    return "", ()


def _models_in(annotation: Any) -> Iterator[tuple[type[BaseModel], Path]]:
    """Yield the sections in a type, with the step from the key to them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ()
        return
    origin, parts = get_origin(annotation), get_args(annotation)
    steps: dict[Any, Path] = {dict: (NAMED,), tuple: (ITEM,)}
    inside = parts if origin in (Union, UnionType, tuple, dict) else parts[:1]
    for part in inside:
        for model, step in _models_in(part):
            yield model, (*steps.get(origin, ()), *step)


def _option(model: type[BaseModel], path: Path, key: str, field: FieldInfo) -> ConfigOption:
    whole = (*path, key)
    if model is SlurmConfig:
        return _slurm_option(whole, key, field)
    inside = [model for model, step in _models_in(field.annotation) if not step]
    elsewhere = _of_the_whole().get(inside[0]) if path and inside else None
    return ConfigOption(
        whole,
        f"as `{elsewhere}`" if elsewhere else type_words(field.annotation, field.metadata),
        default_words(field),
        unit_words(field.annotation, field.metadata),
        _where(whole),
        field_docstrings(model).get(key, ""),
        may_change(".".join(whole)),
    )


def _slurm_option(path: Path, key: str, field: FieldInfo) -> ConfigOption:
    declared = declared_options(SlurmConfig)[key]
    return ConfigOption(
        path,
        type_words(field.annotation, field.metadata),
        value_words(declared.default),
        "seconds" if declared.metavar == "SECONDS" else "",
        "",
        f"{declared.help} {declared.notes}".strip(),
        may_change=True,
    )


def _where(path: Path) -> str:
    key = path[-1]
    if "optimizer" in path[0] and key in optimizer_keys():
        return _names(name for name, one in OPTIMIZERS.items() if key in one.keys)
    if "optimizer" in path[0] and key == "args":
        return "an optimizer of your own"
    if path[0] == "schedule":
        without = [name for name in SCHEDULES if key in unsupported_schedule_keys(name)]
        return _names(name for name in SCHEDULES if name not in without) if without else ""
    return ""


def _names(names: Iterator[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "a function of your own"

"""``docs/configuration.md``: the reference of every option, written from the models that check a config."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ...data.common import as_sentence
from . import components
from .components import Component
from .option_list import ConfigOption, ConfigSectionOptions, config_sections

_INTRODUCTION = """\
# Configuration

Every option of a config. `launch config reference > docs/configuration.md` writes this file; a test compares the two.
`docs/training.md` says how the options work together.

A config is a YAML file. What it says can be set on the command line, too: `launch train exp.yaml optimizer.lr=0.1`.
`launch config show exp.yaml` prints the whole config with the origin of each value, and `launch config why optimizer.lr
exp.yaml` one value with its meaning. `launch config schema > lockstep.schema.json` writes a JSON schema; an editor with
a YAML language server completes and checks a file that begins with

```yaml
# yaml-language-server: $schema=lockstep.schema.json
```

A length such as `500 steps`, `2 epochs` or `5 %` is one of the run; a bare number is steps. *Unset*: the key is
left out or null. Where the last column says *yes*, a run may be resumed with another value; any other change makes it
another run.
"""
_COLUMNS = ("key", "type", "default", "unit", "of", "meaning", "on resume")


def reference() -> str:
    """Write the whole reference."""
    parts = [_INTRODUCTION, *map(_section, config_sections()), *_components()]
    return "\n".join(parts)


def _section(section: ConfigSectionOptions) -> str:
    title = f"## `{section.key}`" if section.key else "## Sections"
    keys = ", ".join(f"`{key}`" for key in section.shared)
    shared = [f"As in `{section.like}`: {keys}.\n"] if section.shared else []
    table = [_table(_COLUMNS, map(_row, section.options))] if section.options else []
    return "\n".join((f"{title}\n", f"{as_sentence(section.meaning)}\n", *shared, *table))


def _row(option: ConfigOption) -> tuple[str, ...]:
    resumed = "yes" if option.may_change else "" if option.type.startswith(("section", "as ")) else "no"
    return (
        f"`{option.key}`",
        option.type,
        option.default,
        option.unit,
        option.where,
        option.meaning,
        resumed,
    )


def _components() -> Iterator[str]:
    yield "# What a config can name\n"
    yield from _with_arguments("Data sets", "data", "data.args", components.data_sources())
    yield from _with_arguments("Models", "model", "model.args", components.models())
    yield from _with_arguments("Losses", "loss", "loss.args", components.losses())
    yield from _with_arguments("Metrics", "metrics", "args", components.metrics())
    yield _with_keys("Optimizers", "optimizer", components.optimizers())
    yield _with_keys("Schedules", "schedule", components.schedules())
    rows = [(f"`{one.name}`", one.meaning) for one in components.trackers()]
    yield f"## Trackers: `tracking`\n\n{_table(('name', 'is'), rows)}"


def _with_arguments(title: str, section: str, args: str, found: Sequence[Component]) -> Iterator[str]:
    rows = [(f"`{one.name}`", one.meaning) for one in found]
    yield f"## {title}: `{section}.use`\n\n{_table(('name', 'is'), rows)}"
    arguments = [
        (f"`{one.name}`", f"`{args}.{each.name}`", each.type, each.default, each.meaning)
        for one in found
        for each in one.arguments
    ]
    yield _table((f"`{section}.use`", "argument", "type", "default", "meaning"), arguments)


def _with_keys(title: str, section: str, found: Sequence[Component]) -> str:
    rows = [
        (f"`{one.name}`", one.meaning, one.note, ", ".join(f"`{each.name}`" for each in one.arguments))
        for one in found
    ]
    return f"## {title}: `{section}.use`\n\n{_table(('name', 'is', 'unset', 'keys'), rows)}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)

"""``launch init`` and ``launch config``: signatures only; the bodies are in ``scaffold`` and ``reference``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import json_errors
from .command_group import CommandGroup
from .options import ConfigArgument, JsonOption, OverridesArgument, split_config

app = typer.Typer()
config = typer.Typer(
    cls=CommandGroup, add_help_option=False, help="Show, explain and describe what a config can say."
)
app.add_typer(config, name="config", rich_help_panel="This machine and this project")


@app.command(
    rich_help_panel="This machine and this project",
    epilog="launch init rings && cd rings && launch train config.yaml",
)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is empty or not there yet.")],
    *,
    json: JsonOption = False,
) -> None:
    """Write a small project that trains: data, model, config, and a test of its own."""
    from ..scaffold import make_project

    with json_errors(json=json):
        raise typer.Exit(make_project(folder, as_json=json))


KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="A key or a section, such as optimizer.lr.")]


@config.command(
    epilog="launch config show exp.yaml optimizer.lr=0.01",
)
def show(
    source: ConfigArgument = None, overrides: OverridesArgument = None, *, json: JsonOption = False
) -> None:
    """Print the whole config, and where each value came from."""
    from ..config import resolve
    from ..reference import show_config

    with json_errors(json=json):
        raise typer.Exit(show_config(resolve(*split_config(source, overrides)), as_json=json))


@config.command(
    epilog="launch config why optimizer.lr exp.yaml",
)
def why(
    key: KeyArgument,
    source: ConfigArgument = None,
    overrides: OverridesArgument = None,
    *,
    json: JsonOption = False,
) -> None:
    """Explain a key: its value, its origin, its meaning."""
    from ..config import resolve
    from ..reference import explain_key

    with json_errors(json=json):
        raise typer.Exit(explain_key(resolve(*split_config(source, overrides)), key, as_json=json))


@config.command(
    epilog="launch config schema > lockstep.schema.json",
)
def schema() -> None:
    """Print the JSON schema of a config, for editors."""
    from ..console import print_json
    from ..reference import config_schema

    print_json(config_schema())


@config.command(
    epilog="launch config reference > configuration.md",
)
def reference() -> None:
    """Print every option as Markdown, as in docs/configuration.md."""
    from ..console import print_results
    from ..reference import reference as written

    print_results(written().splitlines())

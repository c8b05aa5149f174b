"""The reference of all commands, from their declarations; run as a module, it writes ``docs/commands.md``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from lockstep.launcher.cli.app import app
from lockstep.launcher.manual.output_schemas import commands_with_schemas
from lockstep.launcher.manual.pages import command_page, commands_by_group
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "commands.md"
WIDTH = 96
_HEAD = """# Commands

What `launch COMMAND --help` prints, written by `python -m tests.helpers.command_reference`. A command ends with one of
the statuses of `docs/errors.md`; where it has `--json`, `launch schema COMMAND` prints the schema of its document.
"""


def leaves(group: Any, path: str = "launch") -> Iterator[tuple[str, Any]]:
    """Yield each command that is no group, by what calls it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def params_of(command: Any) -> list[Any]:
    """Return a command's parameters, that of its help included."""
    context = command.context_class(command, info_name="x", help_option_names=["-h", "--help"])
    return list(command.get_params(context))


def command_reference() -> str:
    """Return the page: the commands in the groups of the help."""
    root: Any = typer.main.get_command(app)
    commands = dict(leaves(root))
    text = [_HEAD]
    for group, names in commands_by_group(root.commands).items():
        text.append(f"## {group}\n")
        for path, command in commands.items():
            if path.split()[1] in names:
                page = "\n".join(command_page(command, params_of(command), path, WIDTH, colour=False))
                schema = path.removeprefix("launch ") in commands_with_schemas()
                note = f"`launch schema {path.removeprefix('launch ')}`\n" if schema else ""
                text.append(f"### `{path}`\n\n```text\n{page.rstrip()}\n```\n\n{note}")
    return "\n".join(text).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(command_reference(), encoding="utf-8")

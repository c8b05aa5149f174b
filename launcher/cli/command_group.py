"""A group of commands: the help of each in one form, and what is wrong with a command line in one voice.

Help is shown before Typer converts what was given: for that it would import pydantic, half of what `--help` costs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
import typer.core

from ...data.common import UsageError, suggestion
from ..console import can_colour, json_errors, print_page, terminal_width
from .foreign_options import options_of, refuse_foreign_options

_PLAIN = (str, int, float, bool)
_HELP = ("-h", "--help")
_VERSION = ("-V", "--version")
_WORDS = {
    "input should be a valid integer": "must be a whole number",
    "input should be a valid number": "must be a number",
    "input should be": "must be",
}
"""How a message about a value begins in pydantic, and how it begins here."""
_ClickError: Any = typer.BadParameter.__mro__[2]
"""Click's own error, which is of another module in each version of Typer."""


class CommandGroup(typer.core.TyperGroup):
    """The commands; an error names the missing one where a script or a config stands in its place."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the page of this group where it is asked for, or nothing else is."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        if not args or args[0] in _HELP:
            _show(self, ctx, status=0 if args else UsageError.exit_status)
        if args[0] in _VERSION and ctx.parent is None:
            from ... import __version__

            print_page([__version__])
            raise typer.Exit
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; show its page if that is asked for."""
        if ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        if args[0] not in self.commands:
            with json_errors(json="--json" in args):
                _refuse_command(ctx, args[0], list(self.commands))
        name, found, rest = super().resolve_command(ctx, args)
        if found is None or hasattr(found, "commands"):
            return name, found, rest
        own = {o: not getattr(p, "is_flag", True) for p in found.get_params(ctx) for o in p.opts}
        is_program = getattr(found, "is_program", lambda _: False)
        given = [option for option, _ in options_of(rest, own, is_program)]
        with json_errors(json="--json" in own and "--json" in given):
            refuse_foreign_options(rest, own, is_program)
        if any(option in _HELP for option in given):
            _show(found, found.context_class(found, info_name=name, parent=ctx))
        for param in found.get_params(ctx):
            _spare_conversion(param)
        _name_in_errors(found)
        return name, found, rest


def _spare_conversion(param: Any) -> None:
    """Let what needs no conversion pass: Typer imports pydantic for it, half of what ``launch status`` takes."""
    descriptor = getattr(param, "type_descriptor", None)  # Typer 0.29 and later
    if descriptor is None or param.required or descriptor.parameter_info.parser is not None:
        return
    convert, kind = param.process_value, descriptor.annotation

    def process(ctx: Any, value: Any) -> Any:
        if value is None:
            nothing = () if param.multiple or param.nargs == -1 else None
            return param.callback(ctx, param, nothing) if param.callback else nothing
        if kind in _PLAIN and type(value) is kind and param.callback is None:
            return value
        return convert(ctx, value)

    param.process_value = process


def _name_in_errors(command: Any) -> None:
    """Let an error in a command's options say whose they are: Click's parser does not, where a value is missing."""
    parse = command.parse_args

    def parse_args(ctx: Any, args: list[str]) -> list[str]:
        try:
            return list(parse(ctx, args))
        except _ClickError as error:
            error.ctx = error.ctx or ctx
            raise

    command.parse_args = parse_args


def show_help(ctx: Any, path: Sequence[str]) -> NoReturn:
    """Show the page of a command, as ``launch help config why`` asks for it.

    Raises:
        UsageError: there is no such command.
    """
    root = ctx.find_root()
    for word in path:
        commands = getattr(root.command, "commands", {})
        if word not in commands:
            _refuse_command(root, word, list(commands))
        root = commands[word].context_class(commands[word], info_name=word, parent=root)
    _show(root.command, root)


def _show(command: Any, ctx: Any, status: int = 0) -> NoReturn:
    from ..manual import command_page, group_page

    path, width, colour = path_of(ctx), terminal_width(), can_colour(sys.stdout)
    if hasattr(command, "commands"):
        print_page(group_page(command, path, width, colour=colour))
    else:
        print_page(command_page(command, command.get_params(ctx), path, width, colour=colour))
    raise typer.Exit(status)


def path_of(ctx: Any) -> str:
    """Return how a command is called, as ``launch config why``; the program is ``launch`` however it was started."""
    names = []
    while ctx.parent is not None:
        names.append(ctx.info_name)
        ctx = ctx.parent
    return " ".join(["launch", *reversed(names)])


def _refuse_command(ctx: Any, word: str, commands: Sequence[str]) -> NoReturn:
    for ending, command in ((".py", "run"), (".yaml", "train"), (".yml", "train")):
        if word.endswith(ending):
            raise UsageError(f"{word}: not a command", f"launch {command} [OPTIONS] {word}")
    path = path_of(ctx)
    raise UsageError(
        f"{path}: there is no command {word!r}{suggestion(word, commands)}",
        f"`{path} --help` lists them",
    )


def run_command_line(app: typer.Typer) -> None:
    """Run the command line and end with its status; what Click finds wrong becomes an error as any other.

    Raises:
        LockstepError: the command failed, or is wrong.
    """
    try:
        status = app(standalone_mode=False, prog_name="launch")
    except _ClickError as error:
        command = getattr(getattr(error, "ctx", None), "command", None)
        is_group = hasattr(command, "commands")
        takes_json = any(param.name == "json" for param in getattr(command, "params", ()))
        with json_errors(json=(is_group or takes_json) and "--json" in sys.argv):
            raise _in_our_words(error) from error
    sys.exit(status or 0)


def _in_our_words(error: Any) -> UsageError:
    """Report an error of Click as every other error is reported: what and where, then what to do."""
    ctx = getattr(error, "ctx", None)
    path = path_of(ctx) if ctx is not None else "launch"
    hint = f"`{path} --help` has what it takes"
    option, kind = getattr(error, "option_name", ""), type(error).__name__
    if kind == "NoSuchOption":
        known = [name for param in error.ctx.command.get_params(error.ctx) for name in param.opts]
        return UsageError(f"{path}: there is no option {option}{suggestion(option, known)}", hint)
    if kind == "MissingParameter":
        return UsageError(f"{path}: {_said(error.param)} is missing", hint)
    message = error.format_message()
    if kind == "BadParameter" and error.param is not None:
        return UsageError(f"{path}: {_said(error.param)}: {_lowered(error.message)}", hint)
    return UsageError(f"{path}: {_lowered(message)}", hint)


def _said(param: Any) -> str:
    return str(param.metavar or param.name) if param.param_type_name == "argument" else param.opts[-1]


def _lowered(message: str) -> str:
    lowered = (message[:1].lower() + message[1:]).rstrip(".")
    for theirs, ours in _WORDS.items():
        if lowered.startswith(theirs):
            return ours + lowered.removeprefix(theirs).partition(", unable")[0]
    return lowered

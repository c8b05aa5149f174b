"""The pages of ``--help`` and ``launch help``: whole sentences, commands and options in groups, examples."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

GROUPS = (
    "Train",
    "Look",
    "Use what was trained",
    "Stop and clear",
    "Cluster",
    "This machine and this project",
)
"""The groups of commands in their order; a command names its own as Typer's ``rich_help_panel``."""
_NARROWEST, _WIDEST = 50, 100
_INDENT = 2
_COLUMN = 30  # characters of an option before its help goes to the next line
_GAP = 2
_COMMENT = "   # "
_MORE = "More"
_OPTIONS = "Options"


class Page:
    """The lines of a page as they grow.

    Args:
        width: of the terminal.
        colour: whether headings, commands and options are bold.
    """

    def __init__(self, width: int, *, colour: bool) -> None:
        self._width = min(max(width, _NARROWEST), _WIDEST)
        self._colour = colour
        self.lines: list[str] = []

    def _bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._colour and text else text

    def usage(self, path: str, pieces: Iterable[str]) -> None:
        """Add the line that says what follows the command; options and arguments are never cut apart."""
        prefix = f"usage: {path} "
        texts = [piece.replace(" ", "\0") for piece in pieces]
        lines = _wrapped(" ".join(texts), self._width - len(prefix))
        self.lines += [
            (self._bold("usage:") + prefix[6:] if not place else " " * len(prefix)) + line.replace("\0", " ")
            for place, line in enumerate(lines)
        ]

    def text(self, text: str) -> None:
        """Add paragraphs, after an empty line."""
        for paragraph in text.split("\n\n"):
            self.lines += ["", *_wrapped(" ".join(paragraph.split()), self._width)]

    def table(self, heading: str, rows: Sequence[tuple[str, str]], widest: int = _COLUMN) -> None:
        """Add names and what they are under a heading, after an empty line."""
        if not rows:
            return
        self.lines += ["", self._bold(f"{heading}:")]
        column = min(max(len(name) for name, _ in rows), widest)
        for name, meaning in rows:
            lines = _wrapped(meaning, self._width - _INDENT - column - _GAP)
            head = " " * _INDENT + self._bold(name)
            if len(name) <= column and lines:
                head += " " * (column - len(name) + _GAP) + lines.pop(0)
            self.lines += [head, *(" " * (_INDENT + column + _GAP) + line for line in lines)]

    def examples(self, rows: Sequence[tuple[str, str]]) -> None:
        """Add command lines to copy, whole; a comment stands above its line."""
        if rows:
            self.lines += ["", self._bold("Examples:" if len(rows) > 1 else "Example:")]
        for command, comment in rows:
            both = f"{' ' * _INDENT}{command}{_COMMENT}{comment}" if comment else " " * _INDENT + command
            if len(both) > self._width and comment:
                self.lines.append(" " * _INDENT + f"# {comment}")
                both = " " * _INDENT + command
            self.lines.append(both)


def group_page(group: Any, path: str, width: int, *, colour: bool) -> list[str]:
    """Lay out the page of a group of commands.

    Args:
        group: with its ``commands``, as Typer makes it.
        path: how it is called, as ``launch config``.
        width: of the terminal.
        colour: whether headings and names are bold.
    """
    page = Page(width, colour=colour)
    page.usage(path, ("COMMAND", "[OPTIONS]", "[ARGUMENTS]"))
    page.text(group.help or "")
    is_root = " " not in path
    commands = {name: found for name, found in group.commands.items() if not found.hidden}
    widest = max(map(len, commands))
    for heading, names in (commands_by_group(commands) if is_root else {"Commands": [*commands]}).items():
        rows = [(name, _first_paragraph(commands[name])) for name in names]
        page.table(heading, rows, widest)
    if is_root:
        page.table("Options", [("-h, --help", "Show this page."), ("--version", "Print the version.")])
    page.text(f"`{path} COMMAND --help` says more of each, with examples.")
    return page.lines


def command_page(command: Any, params: Sequence[Any], path: str, width: int, *, colour: bool) -> list[str]:
    """Lay out the page of a command.

    Args:
        command: as Typer makes it.
        params: its arguments and options, with those that are made for it.
        path: how it is called, as ``launch config why``.
        width: of the terminal.
        colour: whether headings and options are bold.
    """
    page = Page(width, colour=colour)
    arguments = [param for param in params if param.param_type_name == "argument"]
    options = [param for param in params if param.param_type_name == "option" and not param.hidden]
    page.usage(path, ("[OPTIONS]", *(_metavar(argument) for argument in arguments)))
    page.text(command.help or "")
    page.examples(examples_of(command))
    page.table("Arguments", [(_metavar(argument), argument.help or "") for argument in arguments])
    for heading, members in _option_groups(options).items():
        page.table(heading, [(_option_name(option), _option_help(option)) for option in members])
    return page.lines


def examples_of(command: Any) -> list[tuple[str, str]]:
    """Return the command lines to copy, each with its comment or none: the lines of Typer's ``epilog``."""
    lines = (command.epilog or "").splitlines()
    return [(line, comment) for line, _, comment in (one.partition(_COMMENT) for one in lines)]


def commands_by_group(commands: Mapping[str, Any]) -> dict[str, list[str]]:
    """Sort the names of commands into the groups of the help; those of no group come last, under "More"."""
    found: dict[str, list[str]] = {heading: [] for heading in (*GROUPS, _MORE)}
    for name, command in commands.items():
        heading = getattr(command, "rich_help_panel", None)
        found[heading if heading in found else _MORE].append(name)
    return {heading: names for heading, names in found.items() if names}


def _first_paragraph(command: Any) -> str:
    return " ".join((command.help or "").partition("\n\n")[0].split())


def _option_groups(options: Sequence[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for option in options:
        found.setdefault(getattr(option, "rich_help_panel", None) or _OPTIONS, []).append(option)
    return {_OPTIONS: found.pop(_OPTIONS, []), **found}


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _option_name(option: Any) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    return names if option.is_flag else f"{names} {option.metavar or option.name.upper()}"


def _option_help(option: Any) -> str:
    if "--help" in option.opts:
        return "Show this page."
    default = option.default
    shown = default not in (None, False, "", ()) and option.show_default and not option.is_flag
    plain = f"{default:g}" if isinstance(default, float) else str(default)
    return f"{option.help or ''} [default: {plain}]" if shown else option.help or ""


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 10), break_on_hyphens=False, break_long_words=False)

"""What the sources say of settings: docstrings under fields, and the arguments in a function's docstring.

Sources are read and never imported: those of models, losses and metrics would import torch.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Hashable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

_ARGS = re.compile(r"^Args:\n((?: {4}.*(?:\n|$)|\n)+)", re.MULTILINE)
_ARGUMENT = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def one_line(text: str) -> str:
    """Join the lines of a docstring, its code marked as Markdown marks it."""
    return " ".join(text.replace("``", "`").split())


@cache
def field_docstrings(kind: Hashable) -> dict[str, str]:
    """Return the docstrings under the fields of a class and of those that it derives from."""
    found: dict[str, str] = {}
    for base in reversed(getattr(kind, "__mro__", ())):
        if base.__module__.partition(".")[0] == "lockstep":
            found |= _under_fields(base)
    return found


def _under_fields(kind: type[Any]) -> dict[str, str]:
    body = ast.parse(inspect.getsource(kind)).body[0]
    statements = body.body if isinstance(body, ast.ClassDef) else []
    found = {}
    for field, after in pairwise(statements):
        text = _docstring(after)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and text:
            found[field.target.id] = one_line(text)
    return found


def _docstring(node: ast.stmt) -> str | None:
    constant = node.value if isinstance(node, ast.Expr) else None
    return constant.value if isinstance(constant, ast.Constant) and isinstance(constant.value, str) else None


@cache
def functions_in(folder: Path) -> dict[str, ast.FunctionDef]:
    """Return the functions at the top of all files of a folder, by their names."""
    files = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.py"))]
    return {node.name: node for file in files for node in file.body if isinstance(node, ast.FunctionDef)}


def keys_of(path: Path, table: str) -> list[str]:
    """Return the names in a table at the top of a file, such as ``MODELS``."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == table:
            value = getattr(node, "value", None)
            keys = value.keys if isinstance(value, ast.Dict) else []
            return [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    raise LookupError(f"{path} has no table {table}")


def as_sentence(text: str) -> str:
    """Begin a text with a capital letter, unless it begins with code."""
    return text[:1].upper() + text[1:]


def summary_of(function: ast.FunctionDef) -> str:
    """Return the first paragraph of a function's docstring, without the verb: what it makes."""
    text = one_line((ast.get_docstring(function) or "").partition("\n\n")[0])
    return as_sentence(text.partition(" ")[2])


def argument_docstrings(function: ast.FunctionDef) -> dict[str, str]:
    """Return what a function's docstring says of its arguments."""
    section = _ARGS.search(ast.get_docstring(function) or "")
    found = _ARGUMENT.findall(section[1]) if section else []
    return {name: as_sentence(one_line(text)) for name, text in found}

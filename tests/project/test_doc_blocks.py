"""Every block of code in the documents is what its language and the command line take; ``end_to_end`` runs them."""

from __future__ import annotations

import ast
import importlib
import subprocess
from typing import Any

import pytest
import torch
import typer

import lockstep
from lockstep.launcher.api.run_objects import Run
from lockstep.launcher.cli.app import app
from lockstep.training.hooks.run_state import RunState
from tests.helpers.command_reference import leaves, params_of
from tests.helpers.doc_blocks import PAGES, SHELL, Block, blocks, launch_lines, launch_spans

ROOT = typer.main.get_command(app)
COMMANDS = dict(leaves(ROOT))
NOT_RUN = 20
NOT_YET = ("bench",)
"""Commands of which README says that they do not exist."""
ROOTS: dict[str, Any] = {"torch": torch, "nn": torch.nn, "lockstep": lockstep, "run": Run, "state": RunState}
"""What names stand for in blocks that do not say so."""


def _of(command: str) -> tuple[Any, list[str]]:
    """The command that words name, and the rest of them."""
    node: Any = ROOT
    words = list(command)
    while words and hasattr(node, "commands"):
        node = node.commands[words.pop(0)]
    return node, words


def test_as_many_blocks_as_are_known_say_why_they_do_not_run() -> None:
    silent = [block for block in blocks(*SHELL, "python") if block.why_not]
    assert len(silent) == NOT_RUN, [(block.name, block.why_not) for block in silent]


@pytest.mark.parametrize("block", blocks(*SHELL), ids=lambda block: block.name)
def test_a_block_of_shell_is_shell_and_its_commands_have_these_options(block: Block) -> None:
    lines = block.commands()
    assert lines
    text = "\n".join(lines)
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, ""), text
    for words in (words for line in lines for words in launch_lines(line)):
        command, rest = _of(words)
        with command.make_context(command.name, rest) as context:
            assert context.params is not None, words


@pytest.mark.parametrize("page", PAGES)
def test_a_sentence_names_commands_and_options_that_there_are(page: str) -> None:
    for span in launch_spans(page):
        spoken = [word.strip("[]") for word in span.split()[1:]]
        if not spoken[0].islower() or spoken[0] in NOT_YET or spoken[0].startswith("-"):
            continue
        command, rest = _of(spoken)
        known = {option for param in params_of(command) for option in (*param.opts, *param.secondary_opts)}
        own = [word for word in rest if word.endswith((".py", "SCRIPT"))]
        words = rest[: rest.index(own[0])] if own else rest
        asked = {word.partition("=")[0] for word in words if word.startswith("-") and len(word) > 1}
        assert asked <= {*known, "--help"}, span


def _chain(node: ast.expr) -> list[str]:
    """``a.b.c`` as its names; empty for what is rooted elsewhere."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (before := _chain(node.value)):
        return [*before, node.attr]
    return []


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.name)
def test_a_block_of_python_compiles_and_what_it_takes_from_elsewhere_is_there(block: Block) -> None:
    tree = ast.parse(block.text)
    roots = dict(ROOTS)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {one.asname or one.name: importlib.import_module(one.name) for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            roots |= {one.asname or one.name: getattr(module, one.name) for one in node.names}
    chains = [_chain(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    for first, *names in filter(None, chains):
        found: Any = roots.get(first)
        for name in names if first in roots else ():
            assert _has(found, name), f"{first}.{'.'.join(names)}"
            found = getattr(found, name, None)


def _has(owner: Any, name: str) -> bool:
    return owner is None or hasattr(owner, name) or name in getattr(owner, "__annotations__", {})

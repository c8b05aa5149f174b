"""Commands about ``launch`` itself: signatures only; the bodies are in ``manual``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..console import json_errors
from .command_group import show_help
from .options import JsonOption

VARIABLE = "_LAUNCH_COMPLETE"
"""Set by a shell's script: ``launch`` then prints what fits, and does nothing else."""
app = typer.Typer()


@app.command(
    "help",
    rich_help_panel="This machine and this project",
    epilog="launch help train\nlaunch help config why",
)
def help_(
    ctx: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]...", help="All commands by default.")
    ] = None,
) -> None:
    """Show what a command does, its options and examples, as `launch COMMAND --help` does."""
    show_help(ctx, command or [])


@app.command(
    rich_help_panel="This machine and this project",
    epilog='eval "$(launch completion bash)"   # in this shell\n'
    "launch completion --install   # in every shell from now on",
)
def completion(
    shell: Annotated[
        str | None, typer.Argument(metavar="[bash|zsh|fish]", help="The shell; by default yours.")
    ] = None,
    *,
    install: Annotated[
        bool, typer.Option("--install", help="Set it up for every shell from now on instead of printing it.")
    ] = False,
) -> None:
    """Print the script that makes a shell complete commands, options, recipes, runs and config keys."""
    from ..console import print_messages, print_results
    from ..manual import completion_script, install_completion

    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if not install:
        print_results(completion_script(chosen, VARIABLE).splitlines())
        return
    print_messages([f"{install_completion(chosen, VARIABLE)}: written; the next shell completes `launch`"])


@app.command(
    rich_help_panel="This machine and this project",
    epilog="launch doctor   # everything, in about ten seconds\nlaunch doctor --json   # for programs",
)
def doctor(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out what takes seconds: torch, an all-reduce, SLURM, W&B.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Look at this machine: software, GPUs, limits, disk, network, SLURM, W&B; say what to fix (status 3 on FAIL)."""
    from ..doctor import examine

    with json_errors(json=json):
        raise typer.Exit(examine(quick=quick, as_json=json))


@app.command(
    rich_help_panel="This machine and this project",
    epilog="launch schema status   # of `launch status --json`\n"
    "launch schema   # which there are\n"
    "launch schema --agents   # what a script should know",
)
def schema(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]...", help="Such as status, or config why.")
    ] = None,
    *,
    agents: Annotated[
        bool, typer.Option("--agents", help="Print what an agent or a script should know instead.")
    ] = False,
) -> None:
    """Print the JSON schema of what a command prints with `--json`, or list the commands that have one."""
    from ..console import print_json, print_results
    from ..manual import commands_with_schemas, for_agents, output_schema

    if agents:
        print_results(for_agents().splitlines())
    elif command:
        print_json(output_schema(" ".join(command)))
    else:
        print_results(commands_with_schemas())

"""``launch submit``: its signature only. Its options of a job are made from the keys of the ``slurm:`` section."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import json_errors
from .adopted_world import refuse_copies
from .options import IgnoreWorldOption, JsonOption, first_positional, split_config
from .slurm_options import JobCommand, JobOptions

app = typer.Typer()


def _is_program(argument: str) -> bool:
    """Check whether the first argument starts a script, to which all that follows belongs, and is not a CONFIG."""
    if argument.startswith("-m") or Path(argument).suffix in (".py", ".pyz"):
        return True
    return Path(argument, "__main__.py").is_file()


class _ProgramLast(JobCommand):
    """A command in which all from SCRIPT or ``-m MODULE`` on belongs to the script; options may follow a CONFIG."""

    is_program = staticmethod(_is_program)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = first_positional(self.get_params(ctx), args)
        own = args[:first]
        if "--" not in own and args[first:] and _is_program(args[first]):
            args = [*own, "--", *args[first:]]
        return super().parse_args(ctx, args)


WhatArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CONFIG [key=value]|SCRIPT [ARG]|-m MODULE [ARG]",
        help="What to train, as after `launch train`, or what to run, as after `launch run`.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")]


@app.command(
    cls=_ProgramLast,
    rich_help_panel="Cluster",
    epilog="launch submit exp.yaml --nodes 2 --gpus 4 --time 4:00:00\n"
    "launch submit --gpus 4 --time 2h train.py --epochs 3   # a script",
)
def submit(
    what: WhatArgument = None,
    *,
    slurm: JobOptions,
    name: Annotated[str | None, typer.Option(help="The run's name; made up if not given.")] = None,
    dry_run: DryRunOption = False,
    ignore_world: IgnoreWorldOption = False,
    json: JsonOption = False,
) -> None:
    """Submit a training or a script to SLURM; it continues by itself after a time limit or a preemption."""
    from ..config import resolve
    from ..submit import SubmitRequest
    from ..submit import submit as send

    with json_errors(json=json):
        refuse_copies("submit", ignore_world=ignore_world)
        program, config = _program_or_config(what or [])
        resolved = None if program else resolve(*config)
        cluster = slurm.pop("cluster")
        request = SubmitRequest(resolved, program, slurm, name, cluster, dry_run, json)
        raise typer.Exit(send(request))


def _program_or_config(what: list[str]) -> tuple[list[str], tuple[str | None, list[str]]]:
    if what and _is_program(what[0]):
        return what, (None, [])
    return [], split_config(what[0] if what else None, what[1:])

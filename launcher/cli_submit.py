"""``launch submit``: its signature only, as in ``cli``. Every option of SLURM's is a key of the ``slurm:`` section."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from .cli_options import JsonOption, documented, first_positional, split_config

app = typer.Typer()

Text = str | None
Texts = list[str] | None
Whole = int | None
Real = float | None


def _is_program(argument: str) -> bool:
    """Whether the first argument starts a program, to which all that follows belongs, and is no CONFIG."""
    if argument.startswith("-m") or Path(argument).suffix in (".py", ".pyz"):
        return True
    return Path(argument, "__main__.py").is_file()


class _ProgramLast(typer.core.TyperCommand):
    """From SCRIPT or ``-m MODULE`` on, everything belongs to the program; after a CONFIG options may follow."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = first_positional(self.params, args)
        own = args[:first]
        if "--" not in own and args[first:] and _is_program(args[first]):
            args = [*own, "--", *args[first:]]
        return super().parse_args(ctx, args)


def _option(metavar: str, words: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=words)


WhatArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CONFIG [key=value]|SCRIPT [ARG]|-m MODULE [ARG]",
        help="What to train, as after `launch train`, or what to run, as after `launch run`.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")]
_HOW = "auto|requeue|chain|none"


@app.command(cls=_ProgramLast)
def submit(
    what: WhatArgument = None,
    *,
    nodes: Annotated[Whole, _option("N", "Nodes.")] = None,
    gpus: Annotated[Text, _option("[KIND:]N", "GPUs on each node.")] = None,
    cpu: Annotated[Whole, _option("N", "CPU processes on each node, instead of GPUs.")] = None,
    time: Annotated[Text, _option("TIME", "4:00:00, 90min, 2h, 1-12:00:00.")] = None,
    partition: Annotated[Text, _option("NAMES", "Partitions, with commas.")] = None,
    account: Annotated[Text, _option("NAME", "Who pays.")] = None,
    qos: Annotated[Text, _option("NAME", "Quality of service.")] = None,
    cpus_per_task: Annotated[Whole, _option("N", "CPUs on each node; else the GPUs' share.")] = None,
    mem: Annotated[Text, _option("SIZE", "Memory on each node: 64G; 0 for all of it.")] = None,
    constraint: Annotated[Text, _option("FEATURES", "What the nodes must have.")] = None,
    gres: Annotated[Text, _option("LIST", "Other generic resources.")] = None,
    exclude: Annotated[Text, _option("HOSTS", "Nodes to stay away from: node[3,7-9].")] = None,
    reservation: Annotated[Text, _option("NAMES", "Reservation.")] = None,
    mail_user: Annotated[Text, _option("ADDRESS", "Whom SLURM writes to.")] = None,
    mail_type: Annotated[Text, _option("TYPES", "When: END,FAIL.")] = None,
    container: Annotated[Text, _option("IMAGE", "Run the processes in this image.")] = None,
    container_mounts: Annotated[Texts, _option("/SRC:/DST", "Repeatable.", "--container-mount")] = None,
    container_runtime: Annotated[
        Text, _option("pyxis|apptainer", "For a .sif apptainer, else pyxis.")
    ] = None,
    modules: Annotated[Texts, _option("NAME", "To load; repeatable.", "--module")] = None,
    env: Annotated[Texts, _option("NAME", "Variable that travels, too; repeatable.")] = None,
    sbatch: Annotated[Texts, _option("OPTION[=VALUE]", "Of sbatch; repeatable.")] = None,
    cluster: Annotated[Text, _option("PROFILE", "Of ~/.config/lockstep/clusters.yaml.")] = None,
    continuation: Annotated[Text, _option(_HOW, "How a stopped job goes on.", "--continue")] = None,
    max_preemptions: Annotated[Whole, _option("K", "Goes on after K preemptions.")] = None,
    max_crashes: Annotated[Whole, _option("K", "Goes on after K failures.")] = None,
    max_restarts: Annotated[Whole, _option("K", "Starts ranks again in place.")] = None,
    hang_timeout: Annotated[Real, _option("SECONDS", "Standstill that is a hang; 0: never.")] = None,
    grace: Annotated[Real, _option("SECONDS", "For a program, between SIGTERM and SIGKILL.")] = None,
    name: Annotated[Text, typer.Option(help="The run's name; made up if not given.")] = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Submit a training or a program to SLURM; it goes on by itself after a time limit or a preemption."""
    given = locals()
    from .config import resolve
    from .submit import SubmitRequest
    from .submit import submit as send

    with documented(json=json):
        program, config = _program_or_config(what or [])
        resolved = None if program else resolve(*config)
        request = SubmitRequest(resolved, program, _slurm(given), name, cluster, dry_run, json)
        raise typer.Exit(send(request))


def _program_or_config(what: list[str]) -> tuple[list[str], tuple[str | None, list[str]]]:
    if what and _is_program(what[0]):
        return what, (None, [])
    return [], split_config(what[0] if what else None, what[1:])


def _slurm(given: dict[str, Any]) -> dict[str, Any]:
    """What belongs to the ``slurm:`` section."""
    others = ("what", "cluster", "name", "dry_run", "json")
    keys = {key: value for key, value in given.items() if key not in others}
    return {**keys, "sbatch": _options(given["sbatch"])}


def _options(given: list[str] | None) -> dict[str, str | bool]:
    """``OPTION=VALUE`` as a mapping; an option without a value is switched on."""
    pairs = (text.removeprefix("--").partition("=") for text in given or [])
    return {name: value if equals else True for name, equals, value in pairs}

"""``launch submit``: its signature only, as in ``cli``. Every option of SLURM's is a key of the ``slurm:`` section."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from .cli_options import JsonOption, documented, first_positional, split_config

app = typer.Typer()


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


def _option(metavar: str, words: str) -> Any:
    return typer.Option(metavar=metavar, help=words)


@app.command(cls=_ProgramLast)
def submit(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG [key=value]... | SCRIPT|-m MODULE [ARGS]...]",
            help="What to train, as after `launch train`, or what to run, as after `launch run`.",
        ),
    ] = None,
    *,
    nodes: Annotated[int | None, _option("N", "Nodes.")] = None,
    gpus: Annotated[str | None, _option("[KIND:]N", "GPUs on each node.")] = None,
    cpu: Annotated[int | None, _option("N", "CPU processes on each node, instead of GPUs.")] = None,
    time: Annotated[str | None, _option("TIME", "4:00:00, 90min, 2h, 1-12:00:00.")] = None,
    partition: Annotated[str | None, _option("NAMES", "Partitions, with commas.")] = None,
    account: Annotated[str | None, _option("NAME", "Who pays.")] = None,
    qos: Annotated[str | None, _option("NAME", "Quality of service.")] = None,
    cpus_per_task: Annotated[
        int | None, _option("N", "CPUs on each node; the GPUs' share if not given.")
    ] = None,
    mem: Annotated[str | None, _option("SIZE", "Memory on each node: 64G; 0 for all of it.")] = None,
    constraint: Annotated[str | None, _option("FEATURES", "What the nodes must have.")] = None,
    gres: Annotated[str | None, _option("LIST", "Other generic resources.")] = None,
    exclude: Annotated[str | None, _option("HOSTS", "Nodes to stay away from: node[3,7-9].")] = None,
    reservation: Annotated[str | None, _option("NAMES", "Reservation.")] = None,
    mail_user: Annotated[str | None, _option("ADDRESS", "Whom SLURM writes to.")] = None,
    mail_type: Annotated[str | None, _option("TYPES", "When: END,FAIL.")] = None,
    container: Annotated[str | None, _option("IMAGE", "Run the processes in this image.")] = None,
    container_mount: Annotated[
        list[str] | None, _option("/SRC:/DST", "What the image sees; repeatable.")
    ] = None,
    container_runtime: Annotated[str | None, _option("pyxis|apptainer", "pyxis if not given.")] = None,
    module: Annotated[list[str] | None, _option("NAME", "Environment module to load; repeatable.")] = None,
    env: Annotated[
        list[str] | None, _option("NAME", "A variable that the job gets, too; repeatable.")
    ] = None,
    sbatch: Annotated[
        list[str] | None, _option("OPTION[=VALUE]", "Any other option of sbatch; repeatable.")
    ] = None,
    cluster: Annotated[str | None, _option("PROFILE", "Of ~/.config/lockstep/clusters.yaml.")] = None,
    continuation: Annotated[
        str | None,
        typer.Option("--continue", metavar="auto|requeue|chain|none", help="How a stopped job goes on."),
    ] = None,
    max_preemptions: Annotated[int | None, _option("K", "How often it goes on after a preemption.")] = None,
    max_crashes: Annotated[int | None, _option("K", "How often it goes on after a failure.")] = None,
    max_restarts: Annotated[int | None, _option("K", "How often ranks are started again in place.")] = None,
    hang_timeout: Annotated[
        float | None, _option("SECONDS", "Standstill after which a hang is called; 0: never.")
    ] = None,
    grace: Annotated[float | None, _option("SECONDS", "For a program, between SIGTERM and SIGKILL.")] = None,
    name: Annotated[str | None, typer.Option(help="The run's name; made up if not given.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Submit a training or a program to SLURM; it goes on by itself after a time limit or a preemption."""
    from .config import resolve
    from .submit import SubmitRequest
    from .submit import submit as send

    slurm = {
        "nodes": nodes, "gpus": gpus, "cpu": cpu, "time": time, "partition": partition, "account": account,
        "qos": qos, "cpus_per_task": cpus_per_task, "mem": mem, "constraint": constraint, "gres": gres,
        "exclude": exclude, "reservation": reservation, "mail_user": mail_user, "mail_type": mail_type,
        "container": container, "container_mounts": container_mount, "container_runtime": container_runtime,
        "modules": module, "env": env, "sbatch": _options(sbatch), "continuation": continuation,
        "max_preemptions": max_preemptions, "max_crashes": max_crashes, "max_restarts": max_restarts,
        "hang_timeout": hang_timeout, "grace": grace,
    }  # fmt: skip
    given = what or []
    with documented(json=json):
        is_program = bool(given) and _is_program(given[0])
        resolved = None if is_program else resolve(*split_config(*_config(given)))
        request = SubmitRequest(resolved, given if is_program else [], slurm, name, cluster, dry_run, json)
        raise typer.Exit(send(request))


def _config(given: list[str]) -> tuple[str | None, list[str]]:
    return (given[0] if given else None), given[1:]


def _options(given: list[str] | None) -> dict[str, str | bool]:
    """``OPTION=VALUE`` as a mapping; an option without a value is switched on."""
    pairs = (text.removeprefix("--").partition("=") for text in given or [])
    return {name: value if equals else True for name, equals, value in pairs}

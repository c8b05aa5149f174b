"""The options that a SLURM job has on the command line: every key of the ``slurm:`` section, declared once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

_HOW = "auto|requeue|chain|none"


def _option(kind: Any, metavar: str, words: str, *names: str) -> Any:
    return Annotated[kind | None, typer.Option(*names, metavar=metavar, help=words)]


OPTIONS: dict[str, Any] = {
    "nodes": _option(int, "N", "Nodes."),
    "gpus": _option(str, "[KIND:]N", "GPUs on each node."),
    "cpu": _option(int, "N", "CPU processes on each node, instead of GPUs."),
    "time": _option(str, "TIME", "4:00:00, 90min, 2h, 1-12:00:00."),
    "partition": _option(str, "NAMES", "Partitions, with commas."),
    "account": _option(str, "NAME", "Who pays."),
    "qos": _option(str, "NAME", "Quality of service."),
    "cpus_per_task": _option(int, "N", "CPUs on each node; else the GPUs' share."),
    "mem": _option(str, "SIZE", "Memory on each node: 64G; 0 for all of it."),
    "constraint": _option(str, "FEATURES", "What the nodes must have."),
    "gres": _option(str, "LIST", "Other generic resources."),
    "exclude": _option(str, "HOSTS", "Nodes to stay away from: node[3,7-9]."),
    "reservation": _option(str, "NAMES", "Reservation."),
    "mail_user": _option(str, "ADDRESS", "Whom SLURM writes to."),
    "mail_type": _option(str, "TYPES", "When: END,FAIL."),
    "container": _option(str, "IMAGE", "Run the processes in this image."),
    "container_mounts": _option(list[str], "/SRC:/DST", "Repeatable.", "--container-mount"),
    "container_runtime": _option(str, "pyxis|apptainer", "For a .sif apptainer, else pyxis."),
    "modules": _option(list[str], "NAME", "To load; repeatable.", "--module"),
    "env": _option(list[str], "NAME", "Variable that travels, too; repeatable."),
    "sbatch": _option(list[str], "OPTION[=VALUE]", "Of sbatch; repeatable."),
    "cluster": _option(str, "PROFILE", "Of ~/.config/lockstep/clusters.yaml."),
    "continuation": _option(str, _HOW, "How a stopped job goes on.", "--continue"),
    "max_preemptions": _option(int, "K", "Goes on after K preemptions."),
    "max_crashes": _option(int, "K", "Goes on after K failures."),
    "max_restarts": _option(int, "K", "Starts ranks again in place."),
    "hang_timeout": _option(float, "SECONDS", "Standstill that is a hang; 0: never."),
    "grace": _option(float, "SECONDS", "For a program, between SIGTERM and SIGKILL."),
}


def with_job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, in the place of its parameter ``slurm``, every option of a job that it has not itself.

    The command gets them as one mapping, in which None stands where nothing was said.
    """
    own = inspect.signature(command, eval_str=True).parameters
    keys = [key for key in OPTIONS if key not in own]
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.items():
        parameters += [_parameter(key) for key in keys] if name == "slurm" else [parameter]

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        said = {key: given.pop(key) for key in keys}
        command(**given, slurm=said | {"sbatch": _pairs(said["sbatch"])})

    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def _parameter(key: str) -> inspect.Parameter:
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=OPTIONS[key])


def _pairs(given: list[str] | None) -> dict[str, str | bool]:
    """``OPTION=VALUE`` as a mapping; an option without a value is switched on."""
    pairs = (text.removeprefix("--").partition("=") for text in given or [])
    return {name: value if equals else True for name, equals, value in pairs}

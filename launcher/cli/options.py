"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

_MACHINES = "Several machines"
_HANGS = "Hangs, restarts and stops"


completers: dict[str, Callable[[str], list[str]]] = {}
"""What completes a ``run``, a ``config`` and a ``key``; filled while a shell asks."""


def _complete_run(incomplete: str) -> list[str]:
    return completers["run"](incomplete)


def _complete_config(incomplete: str) -> list[str]:
    return [*completers["config"](incomplete), *completers["key"](incomplete)]


def _complete_key(incomplete: str) -> list[str]:
    return completers["key"](incomplete)


ForceOption = Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
ConfigArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[CONFIG]",
        help="A recipe's name or a YAML file; `digits` by default.",
        autocompletion=_complete_config,
    ),
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[key=value]...", help="Settings that override the file.", autocompletion=_complete_key
    ),
]
RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="A run's name or the path of its folder; by default the one that is running, else the newest.",
        autocompletion=_complete_run,
    ),
]
DrawnArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        help="Names or folders of runs or sweeps; by default the run that is running, else the newest.",
        autocompletion=_complete_run,
    ),
]
RunningArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="A run's name or the path of its folder; by default the only one that is running.",
        autocompletion=_complete_run,
    ),
]

ScaledArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's name or the path of its folder.", autocompletion=_complete_run
    ),
]

GpusOption = Annotated[
    str | None,
    typer.Option(
        metavar="N|all|idle|0,2|UUID", help="Start one process on each of these GPUs; `idle`: on unused ones."
    ),
]
CpuOption = Annotated[int | None, typer.Option(metavar="N", help="Start N processes on the CPU.")]


def first_positional(params: Sequence[Any], args: Sequence[str]) -> int:
    """Find where the leading options end; ``-m`` counts as the beginning of a program."""
    valued = {name for o in params if not getattr(o, "is_flag", True) for name in o.opts}
    first = 0
    while first < len(args) and args[first].startswith("-") and not args[first].startswith("-m"):
        first += 2 if args[first] in valued else 1
    return first


def split_config(config: str | None, overrides: list[str] | None) -> tuple[str | None, list[str]]:
    """Separate CONFIG from the settings; without a CONFIG the first ``key=value`` stands in its place."""
    settings = overrides or []
    if config is not None and "=" in config and not Path(config).exists():
        return None, [config, *settings]
    return config, settings


def split_run(run: str | None, rest: list[str] | None) -> tuple[str | None, list[str]]:
    """Separate RUN from what follows it; without a RUN, a setting, a file or ``-`` for stdin stands in its place."""
    from ..runs import names_run

    others = rest or []
    if run is None or names_run(run) or not ("=" in run or run == "-" or Path(run).exists()):
        return run, others
    return None, [run, *others]


def options_given(ctx: typer.Context, names: Sequence[str]) -> list[str]:
    """List those of these options that were given on the command line, as they are written there."""
    sources = ((name, ctx.get_parameter_source(name)) for name in names)
    return [
        f"--{name.replace('_', '-')}" for name, source in sources if source and source.name == "COMMANDLINE"
    ]


NodesOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Number of machines; run the same command on each, except for --node-rank.",
        rich_help_panel=_MACHINES,
    ),
]
NodeRankOption = Annotated[
    int | None,
    typer.Option(metavar="K", min=0, help="Rank of this machine among the nodes.", rich_help_panel=_MACHINES),
]
IgnoreWorldOption = Annotated[
    bool,
    typer.Option(
        "--ignore-world",
        help="Run as a world of its own, whatever mpirun, srun and others have set.",
        rich_help_panel=_MACHINES,
    ),
]
RendezvousOption = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT", help="Address at which the other nodes reach node 0.", rich_help_panel=_MACHINES
    ),
]
HostsOption = Annotated[
    str | None,
    typer.Option(
        metavar="A,B:4,…",
        help="Hosts to start the nodes on, by ssh; B:4 gets four processes. A is node 0.",
        rich_help_panel=_MACHINES,
    ),
]
HostfileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The same from a file: A, B:4 or B slots=4 on each line.",
        rich_help_panel=_MACHINES,
    ),
]
NodeTimeoutOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=1,
        help="Silence after which another node counts as lost.",
        rich_help_panel=_MACHINES,
    ),
]
HangOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Time without progress that counts as a hang, three times that for starts and checkpoints; 0: never.",
        rich_help_panel=_HANGS,
    ),
]
HangMinOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Least time that counts as a hang of a training, however quick its steps were so far.",
        rich_help_panel=_HANGS,
    ),
]
StopTimeoutOption = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Time that a stop with a checkpoint may take; by default three times what steps and checkpoints took.",
        rich_help_panel=_HANGS,
    ),
]
RestartsOption = Annotated[
    int,
    typer.Option(
        metavar="K", min=0, help="How often failed ranks are restarted in place.", rich_help_panel=_HANGS
    ),
]
LogSizeOption = Annotated[
    int,
    typer.Option(
        "--log-max-mb",
        metavar="MB",
        min=1,
        help="The size of a rank's log; a larger one keeps its first and its last part.",
    ),
]
GraceOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Time between SIGTERM and SIGKILL when the script is stopped; as long between SIGINT and SIGTERM.",
        rich_help_panel=_HANGS,
    ),
]
SweepArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[CONFIG|SWEEP]",
        help="What to train, or an existing sweep to continue.",
        autocompletion=_complete_config,
    ),
]
GridArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[key=v1,v2|key=0..4|key=value]...",
        help="Settings; several values span the grid.",
        autocompletion=_complete_key,
    ),
]
StatusArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]", help="A run's name or folder; all runs by default.", autocompletion=_complete_run
    ),
]
ComparedArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="A run's name or the path of its folder; by default the newest training.",
        autocompletion=_complete_run,
    ),
]
RemovedArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...", help="Names or folders of runs or sweeps.", autocompletion=_complete_run
    ),
]
SortOption = Annotated[
    str | None,
    typer.Option(
        metavar="METRIC|KEY", help="Sort a sweep's table: by a metric, best first, or by a setting."
    ),
]
SubmitOption = Annotated[
    bool,
    typer.Option(
        "--submit", help="Submit the sweep to SLURM as one job array, with the options of `launch submit`."
    ),
]
AtOnceOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Run at most N points at the same time.")
]

"""What several commands have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's name or the path of its folder.")]


def first_positional(params: Sequence[Any], args: Sequence[str]) -> int:
    """Where the options that come first end; ``-m`` counts as the beginning of a program."""
    valued = {name for o in params if not getattr(o, "is_flag", True) for name in o.opts}
    first = 0
    while first < len(args) and args[first].startswith("-") and not args[first].startswith("-m"):
        first += 2 if args[first] in valued else 1
    return first


def split_config(config: str | None, overrides: list[str] | None) -> tuple[str | None, list[str]]:
    """Without a CONFIG the first ``key=value`` stands in its place."""
    settings = overrides or []
    if config is not None and "=" in config and not Path(config).exists():
        return None, [config, *settings]
    return config, settings


def given(ctx: typer.Context, names: Sequence[str]) -> list[str]:
    """Which of these options stand on the command line, as they are written there."""
    sources = ((name, ctx.get_parameter_source(name)) for name in names)
    return [
        f"--{name.replace('_', '-')}" for name, source in sources if source and source.name == "COMMANDLINE"
    ]


NodesOption = Annotated[
    int, typer.Option(metavar="N", min=1, help="Machines; the same command on each, but for --node-rank.")
]
NodeRankOption = Annotated[int, typer.Option(metavar="K", min=0, help="Which of the machines this one is.")]
RendezvousOption = Annotated[
    str, typer.Option(metavar="HOST:PORT", help="Where machine 0 is to be reached by the others.")
]
NodeTimeoutOption = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=1, help="Silence after which another machine counts as lost."),
]
HangOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Standstill after which a hang is called, three times that for starts and checkpoints; 0: never.",
    ),
]
RestartsOption = Annotated[
    int, typer.Option(metavar="K", min=0, help="How often failed ranks are started again in place.")
]
GraceOption = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="Between SIGTERM and SIGKILL, when it is stopped.")
]
SweepArgument = Annotated[
    str | None,
    typer.Argument(metavar="[CONFIG|SWEEP]", help="What to train; or a sweep, which then goes on."),
]
GridArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[key=v1,v2|key=0..4|key=value]...", help="Those with several values vary."),
]
SortOption = Annotated[
    str | None,
    typer.Option(metavar="METRIC|KEY", help="Of a sweep's table: best first, or by a setting."),
]
SubmitOption = Annotated[
    bool,
    typer.Option("--submit", help="Let SLURM do it, as one job array, with the options of `launch submit`."),
]
AtOnceOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="No more than N points run together.")
]

"""The commands for runs that are there already, whoever started them: signatures only, as in ``cli``."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import json_errors
from .options import JsonOption, RunArgument, SortOption

app = typer.Typer()

WaitOption = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for it.")
]


@app.command()
def status(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run's name or folder; every run if not given.")
    ] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again as it changes.")] = False,
    sort: SortOption = None,
    json: JsonOption = False,
) -> None:
    """Say how a run or sweep is doing, or list all runs, newest first."""
    from ..commands import status as board

    with json_errors(json=json):
        raise typer.Exit(board.show(run, watch=watch, as_json=json, sort=sort))


@app.command()
def logs(
    run: RunArgument,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run is over.")] = False,
    rank: Annotated[int | None, typer.Option(metavar="K", help="Of this rank only.")] = None,
    attempt: Annotated[int | None, typer.Option(metavar="K", help="Of this attempt, not the newest.")] = None,
) -> None:
    """Show what the ranks wrote; a line that several wrote stands there once, with their ranks."""
    from ..commands import logs as texts

    raise typer.Exit(texts.show(run, follow=follow, rank=rank, attempt=attempt))


@app.command()
def stop(run: RunArgument, *, wait: WaitOption = 60.0) -> None:
    """Let a run write a checkpoint and end; `launch resume` takes it up again."""
    from ..commands import stop as ask

    raise typer.Exit(ask.stop(run, wait))


@app.command()
def checkpoint(run: RunArgument, *, wait: WaitOption = 60.0) -> None:
    """Let a run write a checkpoint now, and go on."""
    from ..commands import stop as ask

    raise typer.Exit(ask.checkpoint(run, wait))


@app.command()
def cancel(
    run: RunArgument,
    *,
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Between SIGTERM and SIGKILL.")
    ] = 5.0,
) -> None:
    """End a run at once."""
    from ..commands import stop as ask

    raise typer.Exit(ask.cancel(run, grace))

"""Commands on existing runs, on this machine or in SLURM: signatures only, as in ``app.py``."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import json_errors
from .options import JsonOption, RunArgument, SortOption

app = typer.Typer()

WaitOption = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait until it is done.")
]


@app.command()
def status(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run's name or folder; all runs by default.")
    ] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Update the output as the run changes.")] = False,
    sort: SortOption = None,
    json: JsonOption = False,
) -> None:
    """Show the state of a run or sweep, or list all runs, newest first."""
    from ..commands import show_status

    with json_errors(json=json):
        raise typer.Exit(show_status(run, watch=watch, as_json=json, sort=sort))


@app.command()
def logs(
    run: RunArgument,
    *,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Follow the logs until the run is over.")
    ] = False,
    rank: Annotated[int | None, typer.Option(metavar="K", help="Show this rank only.")] = None,
    attempt: Annotated[
        int | None, typer.Option(metavar="K", help="Show this attempt instead of the newest.")
    ] = None,
) -> None:
    """Show what a training printed, then what the ranks wrote; a line of several ranks is shown once, with them."""
    from ..commands import show_logs

    raise typer.Exit(show_logs(run, follow=follow, rank=rank, attempt=attempt))


@app.command()
def stop(run: RunArgument, *, wait: WaitOption = 60.0) -> None:
    """Stop a run with a checkpoint; `launch resume` continues it."""
    from ..commands import stop_run

    raise typer.Exit(stop_run(run, wait))


@app.command()
def checkpoint(run: RunArgument, *, wait: WaitOption = 60.0) -> None:
    """Make a run write a checkpoint now and continue."""
    from ..commands import checkpoint_run

    raise typer.Exit(checkpoint_run(run, wait))


@app.command()
def cancel(
    run: RunArgument,
    *,
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Time between SIGTERM and SIGKILL.")
    ] = 5.0,
) -> None:
    """End a run at once."""
    from ..commands import cancel_run

    raise typer.Exit(cancel_run(run, grace))

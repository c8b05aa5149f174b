"""``launch sweep``: its signature only, as in ``cli``."""

from __future__ import annotations

from typing import Annotated

import typer

from .cli_options import HangOption, JsonOption, RestartsOption, documented, split_config
from .supervision import Supervision

app = typer.Typer()


@app.command()
def sweep(
    config: Annotated[
        str | None,
        typer.Argument(metavar="[CONFIG|SWEEP]", help="What to train; or a sweep, which then goes on."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=v1,v2|key=0..4|key=value]...", help="Those with several values vary."),
    ] = None,
    *,
    gpus: Annotated[str | None, typer.Option(metavar="N|all|idle|0,2|UUID", help="Of each point.")] = None,
    cpu: Annotated[int | None, typer.Option(metavar="N", help="CPU processes of each point.")] = None,
    name: Annotated[str | None, typer.Option(help="The sweep's name; made up if not given.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Launch points that failed again, too.")] = False,
    sort: Annotated[
        str | None, typer.Option(metavar="METRIC|KEY", help="Of the table: best first, or by a setting.")
    ] = None,
    hang_timeout: HangOption = 600.0,
    max_restarts: RestartsOption = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the points and start nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Train a grid of settings, a run for each point, and print a table of the results."""
    from .sweep import SweepRequest
    from .sweep import sweep as sweep_it

    with documented(json=json):
        patience = Supervision(hang_timeout, max_restarts)
        what = split_config(config, settings)
        raise typer.Exit(sweep_it(SweepRequest(*what, gpus, cpu, name, patience, retry, sort, dry_run, json)))

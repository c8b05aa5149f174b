"""``launch slurm-sandbox``: signatures only; the bodies are in ``sandbox``."""

from __future__ import annotations

import typer

from .command_group import CommandGroup

app = typer.Typer()
sandbox = typer.Typer(
    cls=CommandGroup,
    add_help_option=False,
    help="A real SLURM of two nodes on this machine alone, to try things on.",
)
app.add_typer(sandbox, name="slurm-sandbox", rich_help_panel="Cluster")


@sandbox.command(
    epilog="sudo launch slurm-sandbox up",
)
def up() -> None:
    """Start it, as root; until `down`, `launch` uses it where SLURM_CONF is not set."""
    from ..sandbox import commands

    raise typer.Exit(commands.up())


@sandbox.command(
    epilog="sudo launch slurm-sandbox down",
)
def down() -> None:
    """End its jobs and daemons, and remove its folder."""
    from ..sandbox import commands

    raise typer.Exit(commands.down())


@sandbox.command(
    epilog="launch slurm-sandbox status",
)
def status() -> None:
    """Say whether it is up, where, and what its nodes do."""
    from ..sandbox import commands

    raise typer.Exit(commands.status())

"""The commands for SLURM: signatures only, as in ``cli``."""

from __future__ import annotations

import typer

app = typer.Typer()

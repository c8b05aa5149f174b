"""The options of a SLURM job on the command line, made from their declarations in ``slurm/options.py``.

They are made when a command of SLURM is asked for, from the table of them beside this file, which needs no pydantic.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Annotated, Any

import typer
import typer.core

_PLACE = "slurm"
JobOptions = Annotated[dict[str, Any], typer.Option(hidden=True, parser=str)]
"""The parameter ``slurm`` of a ``JobCommand``: what was said of every option of a job, None where nothing was."""


class JobCommand(typer.core.TyperCommand):
    """A command that has, in the place of its parameter ``slurm``, every option of a job that it has not itself."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, those of a job among them; for parsing and for the help."""
        own = {parameter.name for parameter in self.params}
        job = [parameter for parameter in _parameters() if parameter.name not in own]
        every = ([parameter] if parameter.name != _PLACE else job for parameter in super().get_params(ctx))
        return [parameter for some in every for parameter in some]

    def invoke(self, ctx: Any) -> Any:
        """Call the function, with the options of the job as one mapping, in the order of their declarations."""
        own = {parameter.name for parameter in self.params}
        job = {p.name: ctx.params.pop(p.name) for p in _parameters() if p.name not in own}
        said = {key: list(value) if isinstance(value, tuple) else value for key, value in job.items()}
        ctx.params[_PLACE] = said | {"sbatch": _pairs(said["sbatch"])}
        return super().invoke(ctx)


@cache
def _parameters() -> list[Any]:
    """Let typer make the options, as those of a command of their own."""

    def command(**_: Any) -> None: ...

    command.__signature__ = inspect.Signature(_signature())  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return typer.main.get_command(app).params


def _signature() -> list[inspect.Parameter]:
    from .slurm_options_generated import JOB_OPTIONS

    parameters = []
    for key, kind, flag, metavar, words in JOB_OPTIONS:
        if flag:
            parameters.append(_parameter(key, kind, flag, metavar, words))
        if key == "sbatch":
            parameters.append(_CLUSTER)
    return parameters


def _parameter(key: str, kind: Any, flag: str, metavar: str, words: str) -> inspect.Parameter:
    annotation = Annotated[
        kind | None, typer.Option(f"--{flag}", metavar=metavar, help=words, rich_help_panel="SLURM")
    ]
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


_CLUSTER = _parameter("cluster", str, "cluster", "PROFILE", "From ~/.config/lockstep/clusters.yaml.")
"""The one option that is not a key of the ``slurm:`` section: it chooses the profile that holds such keys."""


def _pairs(given: list[str] | None) -> dict[str, str | bool]:
    """Return ``OPTION=VALUE`` as a mapping; an option without a value is switched on."""
    pairs = (text.removeprefix("--").partition("=") for text in given or [])
    return {name: value if equals else True for name, equals, value in pairs}

"""What several commands have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from ..data.errors import LockstepError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's name or the path of its folder.")]


@contextmanager
def documented(*, json: bool) -> Iterator[None]:
    """With ``--json`` a refusal, too, is one document on stdout, in the form of a failed run's outcome."""
    try:
        yield
    except LockstepError as error:
        if json:
            from .console import put_json

            failed = {"status": "failed", "exit_code": error.exit_status, "error": error.to_json()}
            put_json({"schema_version": 1, **failed})
        raise


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

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

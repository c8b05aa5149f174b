"""What ``--dry-run`` shows of a submission: every byte of it, and where each option comes from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_WIDEST = 32  # a longer value pushes its own origin aside, not everybody's


def dry_run_listing(document: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what ``--dry-run`` prints: the command, the script, the files of the run folder, the origins.

    Args:
        document: the submission, as ``--dry-run --json`` prints it.
        options: the values whose origins it has.
    """
    yield "# The command; its environment has only the variables that are named at the end"
    yield from _command(document["sbatch"])
    for path, text in document["files"].items():
        yield from ("", f"# {path}")
        yield from text.splitlines()
    yield from ("", "# Who said what")
    yield from _origins(document["origins"], options)
    yield from ("", "# Variables of this environment that travel with the job; --env NAME adds one")
    yield ", ".join(document["environment"]) or "none"


def _command(argv: Sequence[str]) -> Iterator[str]:
    yield f"{argv[0]} \\"
    yield from (f"  {shlex.quote(argument)} \\" for argument in argv[1:-1])
    yield f"  {shlex.quote(argv[-1])}"


def _origins(origins: Mapping[str, str], options: Mapping[str, Any]) -> Iterator[str]:
    values = {key: _text(options.get(key)) for key in sorted(origins)}
    keys = max(map(len, values), default=0)
    width = min(_WIDEST, max(map(len, values.values()), default=0))
    yield from (f"{key:<{keys}}  {value:<{width}}  {origins[key]}" for key, value in values.items())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

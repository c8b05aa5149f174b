"""How a submission looks to people: every byte of it, and who said what."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from .sbatch import SCRIPT
from .submission import SETUP, Submission

_WIDEST = 32


def listing_of(submission: Submission) -> Iterator[str]:
    """What ``--dry-run`` prints: the command, the script, the files of the run folder, the origins."""
    job = submission.job
    yield "# The command; its environment has only the variables that are named at the end."
    yield "sbatch \\"
    yield from (f"  {shlex.quote(option)} \\" for option in job.sbatch)
    yield "  " + shlex.join(submission.arguments)
    yield from _file(str(SCRIPT), SCRIPT.read_text(encoding="utf-8"))
    yield from _file(str(submission.folder / "job.json"), json.dumps(job.to_json(), indent=1))
    if submission.setup:
        yield from _file(str(submission.folder / "slurm" / SETUP), submission.setup)
    yield from ("", "# Who said what")
    yield from _origins(submission)
    yield from ("", "# Variables of this environment that travel with the job, by name; --env NAME adds one")
    yield ", ".join(sorted(submission.environment)) or "none"


def _file(path: str, text: str) -> Iterator[str]:
    yield from ("", f"# {path}")
    yield from text.splitlines()


def _origins(submission: Submission) -> Iterator[str]:
    values = {key: _value(submission, key) for key in sorted(submission.job.origins)}
    key_width = max(map(len, values), default=0)
    value_width = min(_WIDEST, max(map(len, values.values()), default=0))
    for key, value in values.items():
        yield f"{key:<{key_width}}  {value:<{value_width}}  {submission.job.origins[key]}"


def _value(submission: Submission, key: str) -> str:
    value = submission.values.get(key)
    return value if isinstance(value, str) else json.dumps(value)

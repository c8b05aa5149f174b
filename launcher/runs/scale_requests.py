"""Requests for another number of processes while a run trains, and the answers to them, as files in its folder."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...data.common import write_json

_ASKED = "scale.json"
_TAKEN = "scale.taken.json"
_ANSWERS = "scale.answers.jsonl"


@dataclass(frozen=True)
class ScaleRequest:
    """A request for another number of processes."""

    number: str
    """By which its answer is found."""
    processes: int


@dataclass(frozen=True)
class ScaleAnswer:
    """The answer to a request."""

    number: str
    done: bool
    message: str
    """What has happened, or why nothing has, in words."""
    processes: int = 0
    """From now on."""
    before: int = 0
    step: int = 0
    """After which the processes have changed."""


def write_scale_request(folder: Path, processes: int) -> ScaleRequest | None:
    """Ask for this many processes; None where another request has not been taken yet."""
    if (folder / _ASKED).exists():
        return None
    request = ScaleRequest(secrets.token_hex(8), processes)
    write_json(folder / _ASKED, asdict(request))
    return request


def take_scale_request(folder: Path) -> ScaleRequest | None:
    """Take the pending request, once: whoever takes it answers it. None where there is none, or it is unreadable."""
    try:
        (folder / _ASKED).rename(folder / _TAKEN)
    except OSError:
        return None
    with suppress(OSError, ValueError, TypeError, KeyError):
        document: dict[str, Any] = json.loads((folder / _TAKEN).read_text(encoding="utf-8"))
        return ScaleRequest(str(document["number"]), int(document["processes"]))
    return None


def answer_scale_request(folder: Path, answer: ScaleAnswer) -> None:
    """Answer a request; the change is made, whether that can be written down or not."""
    with suppress(OSError), (folder / _ANSWERS).open("a", encoding="utf-8") as answers:
        answers.write(json.dumps(asdict(answer)) + "\n")


def read_scale_answer(folder: Path, request: ScaleRequest) -> ScaleAnswer | None:
    """Read the answer to a request; None while there is none."""
    with suppress(OSError, ValueError, TypeError):
        for line in (folder / _ANSWERS).read_text(encoding="utf-8").splitlines():
            document = json.loads(line)
            if document["number"] == request.number:
                return ScaleAnswer(**document)
    return None


def clear_scale_requests(folder: Path) -> None:
    """Forget what was asked of an attempt that is over."""
    for name in (_ASKED, _TAKEN, _ANSWERS):
        (folder / name).unlink(missing_ok=True)

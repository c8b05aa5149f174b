"""What the fields of the ``slurm:`` section may hold, down to their characters.

One model checks the config, a cluster's profile and the command line. Every value goes to sbatch as
``--option=value``, one argument each, and none is ever read by a shell. The white lists hold all the same: some
sites wrap sbatch in a script, and job names and paths come back in the output of tools that users pipe to others.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

_LONGEST = 1024
_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60
_LONGEST_TIME = 3_650 * _DAY
_CLOCK = re.compile(r"(?:([0-9]{1,4})-)?([0-9]{1,5}):([0-5]?[0-9]):([0-5]?[0-9])")
_DAYS = re.compile(r"([0-9]{1,4})-([0-9]{1,2})(?::([0-5]?[0-9]))?")
_UNITS = re.compile(
    r"(?:([0-9]{1,4}) ?d(?:ays?)?)? ?(?:([0-9]{1,5}) ?h(?:ours?|rs?)?)?"
    r" ?(?:([0-9]{1,6}) ?m(?:in(?:ute)?s?)?)? ?(?:([0-9]{1,9}) ?s(?:ec(?:ond)?s?)?)?",
    re.IGNORECASE,
)
_BARE = re.compile("[0-9]{1,7}")
UNLIMITED = "UNLIMITED"
_MAIL = (
    "NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT", "TIME_LIMIT",
    "TIME_LIMIT_90", "TIME_LIMIT_80", "TIME_LIMIT_50", "ARRAY_TASKS",
)  # fmt: skip
_MEMORY = re.compile(r"([1-9][0-9]{0,9}) ?([KMGT])(?:i?B)?", re.IGNORECASE)


def _matching(pattern: str, allowed: str) -> AfterValidator:
    expression = re.compile(pattern)

    def check(value: str) -> str:
        if len(value) > _LONGEST:
            raise ValueError(f"must have at most {_LONGEST} characters")
        if not expression.fullmatch(value):
            raise ValueError(f"must be {allowed}")
        return value

    return AfterValidator(check)


def _memory(value: str) -> str:
    if value == "0":  # SLURM's word for all of a node's memory
        return value
    found = _MEMORY.fullmatch(value)
    if not found:
        raise ValueError("must be a number with its unit, such as 16G or 500M, or 0 for all of a node's")
    return found[1] + found[2].upper()


def _mail(value: str) -> str:
    types = value.upper().replace("-", "_").split(",")
    for kind in types:
        if kind not in _MAIL:
            raise ValueError(f"must be some of {', '.join(_MAIL)}, such as END,FAIL")
    return ",".join(types)


def check_sbatch_value(name: str, value: Any) -> None:
    """Refuse a value of one of sbatch's options that is none, or that a shell could misread.

    Raises:
        ValueError: the value is refused.
    """
    if value is False or not isinstance(value, (str, int)):
        raise ValueError(f"{name} must be text, a whole number, or true for an option without a value")
    if value is not True and not re.fullmatch(_OTHER, str(value)):
        raise ValueError(f"{name} = {str(value)[:60]!r} must be {_OTHER_ALLOWED}")


_OTHER = r"[A-Za-z0-9_./:@+\[(][A-Za-z0-9_./:@%+,=()\[\]&|*-]{0,500}"
_OTHER_ALLOWED = "letters, digits and _./:@%+,=()[]&|*-, not beginning with a dash"

Name = Annotated[
    str, _matching(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*", "letters, digits and _.@+-, not beginning with a dash")
]
Names = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*(,[A-Za-z0-9_][A-Za-z0-9_.@+-]*)*",
        "names of letters, digits and _.@+-, with commas between them",
    ),
]
Constraint = Annotated[
    str,
    _matching(r"[A-Za-z0-9_(\[][A-Za-z0-9_.,&|*:+()\[\]-]*", "features such as a100, a&b, [rack1|rack2]"),
]
Gres = Annotated[
    str, _matching(r"[A-Za-z0-9_][A-Za-z0-9_.:,/-]*", "resources such as gpu:2 or nvme:1,license:3")
]
NodeList = Annotated[
    str, _matching(r"[A-Za-z0-9][A-Za-z0-9_.,\[\]-]*", "host names such as node7 or node[1-3,9]")
]
MailAddress = Annotated[
    str, _matching(r"[A-Za-z0-9_][A-Za-z0-9_.+%-]*(@[A-Za-z0-9.-]+)?", "one e-mail address")
]
Image = Annotated[
    str,
    _matching(
        r"(/|[a-z]+://|[A-Za-z0-9])[A-Za-z0-9_./:@#+=-]*",
        "an absolute path or an address such as docker://nvcr.io#nvidia/pytorch:25.01-py3, without spaces",
    ),
]
ContainerMount = Annotated[
    str, _matching(r"/[A-Za-z0-9_./@+=-]*:/[A-Za-z0-9_./@+=-]*(:(ro|rw))?", "/outside:/inside[:ro]")
]
Module = Annotated[
    str, _matching(r"[A-Za-z0-9_][A-Za-z0-9_./+@=-]*", "the name of a module such as cuda/12.6")
]


def _gpus(value: str | int) -> str | int:
    if isinstance(value, int):
        if isinstance(value, bool) or not 1 <= value <= 1024:  # noqa: PLR2004 - no node has more
            raise ValueError("must be the number of GPUs on each node, at least 1")
        return value
    if not re.fullmatch(r"([A-Za-z][A-Za-z0-9_.-]*:)?[1-9][0-9]{0,3}", value):
        raise ValueError("must be the number of GPUs on each node, such as 4 or a100:4")
    return int(value) if value.isdigit() else value


Gpus = Annotated[str | int, AfterValidator(_gpus)]
Memory = Annotated[str, AfterValidator(_memory)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Processes = Annotated[int, Field(ge=1, le=10_000)]
Limit = Annotated[int, Field(ge=0, le=100_000)]
Seconds = Annotated[float, Field(ge=0)]
GraceSeconds = Annotated[float, Field(ge=0, le=65_000)]  # sbatch's --signal counts to 65535
MailTypes = Annotated[str, AfterValidator(_mail)]


def _bare_number(value: Any) -> Any:
    """Return a whole number as text: YAML makes one of ``time: 10``."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def normalise_time_limit(text: str) -> str:
    """Return ``D-HH:MM:SS`` or ``HH:MM:SS``, or ``UNLIMITED``.

    Raises:
        ValueError: it is none of the forms, nothing at all, or means something else to SLURM than to most users.
    """
    if text.upper() in (UNLIMITED, "INFINITE"):
        return UNLIMITED
    seconds = _seconds_in(text.strip(" "))
    if not 0 < seconds <= _LONGEST_TIME:
        raise ValueError("must be more than nothing and at most 3650 days")
    days, rest = divmod(seconds, _DAY)
    clock = f"{rest // _HOUR:02}:{rest // _MINUTE % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


TimeLimit = Annotated[
    str, BeforeValidator(_bare_number, json_schema_input_type=str | int), AfterValidator(normalise_time_limit)
]


def time_limit_note(said: Any, where: str) -> str:
    """Return what to note of a time limit without a unit, which means minutes to sbatch; empty for any other."""
    text = str(said).strip(" ")
    if isinstance(said, bool) or not _BARE.fullmatch(text):
        return ""
    return f"time = {text} ({where}) is {int(text):,} minute{'s' * (int(text) != 1)}, as sbatch reads it"


def time_limit_seconds(normal: str) -> int | None:
    """Return the seconds of a limit in its normal form; None for no limit."""
    return None if normal == UNLIMITED else _seconds_in(normal)


def _seconds_in(text: str) -> int:
    if _BARE.fullmatch(text):  # sbatch's minutes
        return int(text) * _MINUTE
    if re.fullmatch("[0-9]{1,6}:[0-9]{1,2}", text):
        raise ValueError(f"is minutes and seconds to SLURM; write {text}:00 or 0:{text}")
    if found := (_CLOCK.fullmatch(text) or (text and _UNITS.fullmatch(text)) or _DAYS.fullmatch(text)):
        parts = [int(part or 0) for part in found.groups()]
        days, hours, minutes, seconds = (*parts, 0)[:4]
        return days * _DAY + hours * _HOUR + minutes * _MINUTE + seconds
    raise ValueError("must be a time such as 4:00:00, 90min, 2h or 1-12:00:00")

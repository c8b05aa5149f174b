"""Time limits of jobs, as people write them and as SLURM reads them."""

from __future__ import annotations

import re

_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60
_LONGEST = 3_650 * _DAY
_CLOCK = re.compile(r"(?:([0-9]{1,4})-)?([0-9]{1,5}):([0-5]?[0-9]):([0-5]?[0-9])")
_DAYS = re.compile(r"([0-9]{1,4})-([0-9]{1,2})(?::([0-5]?[0-9]))?")
_UNITS = re.compile(
    r"(?:([0-9]{1,4}) ?d(?:ays?)?)? ?(?:([0-9]{1,5}) ?h(?:ours?|rs?)?)?"
    r" ?(?:([0-9]{1,6}) ?m(?:in(?:ute)?s?)?)? ?(?:([0-9]{1,9}) ?s(?:ec(?:ond)?s?)?)?",
    re.IGNORECASE,
)
UNLIMITED = "UNLIMITED"


def normal_time(text: str) -> str:
    """``D-HH:MM:SS`` or ``HH:MM:SS``, or ``UNLIMITED``.

    Raises:
        ValueError: it is none of the forms, nothing at all, or means something else to SLURM than to most people.
    """
    if text.upper() in (UNLIMITED, "INFINITE"):
        return UNLIMITED
    seconds = _seconds(text.strip(" "))
    if not 0 < seconds <= _LONGEST:
        raise ValueError("must be more than nothing and at most 3650 days")
    days, rest = divmod(seconds, _DAY)
    clock = f"{rest // _HOUR:02}:{rest // _MINUTE % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def seconds_of(normal: str) -> int | None:
    """Seconds of a limit in its normal form; None for no limit."""
    return None if normal == UNLIMITED else _seconds(normal)


def _seconds(text: str) -> int:
    if re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"must have a unit: {text}min, {text}h or {text}s")
    if re.fullmatch("[0-9]{1,6}:[0-9]{1,2}", text):
        raise ValueError(f"is minutes and seconds to SLURM; write {text}:00 or 0:{text}")
    if found := (_CLOCK.fullmatch(text) or (text and _UNITS.fullmatch(text)) or _DAYS.fullmatch(text)):
        parts = [int(part or 0) for part in found.groups()]
        days, hours, minutes, seconds = (*parts, 0)[:4]
        return days * _DAY + hours * _HOUR + minutes * _MINUTE + seconds
    raise ValueError("must be a time such as 4:00:00, 90min, 2h or 1-12:00:00")

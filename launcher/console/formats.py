"""Numbers in few characters: metrics, times, a curve in one line."""

from __future__ import annotations

import math
from collections.abc import Sequence

_LARGE = 1000  # above it four decimals are noise
_HUGE = 1e7  # above it a column would not hold it
_BARS = "▁▂▃▄▅▆▇█"
_DAY = 86_400


def format_metric(key: str, value: float | None) -> str:
    """Format a metric's value in few characters; an accuracy as a percentage."""
    if value is None:
        return "nan"
    if key.endswith("accuracy"):
        return f"{value:.2%}"
    if abs(value) >= _HUGE:
        return f"{value:.3e}"
    return f"{value:.{4 if abs(value) < _LARGE else 2}f}"


def format_duration(seconds: float) -> str:
    """Format a time span as ``0:12:30``, or ``2 d 3 h`` from a day on."""
    whole = max(0, round(seconds))
    if whole >= _DAY:
        return f"{whole // _DAY} d {whole % _DAY // 3600} h"
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def sparkline(values: Sequence[float | None]) -> str:
    """Draw values as bars of eight heights, the largest the highest; what is not a number is a gap."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return ""
    low, span = min(known), (max(known) - min(known)) or 1.0
    top = len(_BARS) - 1
    return "".join(
        " " if value is None or not math.isfinite(value) else _BARS[round(top * (value - low) / span)]
        for value in values
    )

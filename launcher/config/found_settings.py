"""What the data has decided about settings that were left out, as comments in ``config.yaml``."""

from __future__ import annotations

from collections.abc import Sequence

from ...data.config import FoundSetting
from .yaml_text import format_value, printable

_MOST_ITEMS = 50  # of a list


def found_yaml(found: Sequence[FoundSetting]) -> str:
    """Format what was found; as settings it would make another run of this one, so it stands in comments."""
    lines = ["#", "# Left out, and found in the data; what you set instead is used:", *map(_line, found)]
    return "\n".join((*lines, "")) if found else ""


def _line(setting: FoundSetting) -> str:
    value, more = setting.value, ""
    if isinstance(value, tuple) and len(value) > _MOST_ITEMS:
        value, more = value[:_MOST_ITEMS], f"; {len(value) - _MOST_ITEMS:,} more are in spec.json"
    return f"#   {setting.key}: {format_value(value)}  # {printable(setting.why)}{more}"

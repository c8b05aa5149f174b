"""A list of the built-in data sets with their arguments: ``python -m lockstep.data.print_sources`` prints it as JSON.

A process of its own, because the launcher, which asks, imports neither numpy nor pandas.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from typing import Any

from .common import field_docstrings
from .sets import SOURCES
from .sources import DataSource


def list_sources() -> list[dict[str, Any]]:
    """Return each data set with its arguments, as plain values."""
    return [
        {"name": name, "meaning": source.meaning, "arguments": _arguments(source)}
        for name, source in SOURCES.items()
    ]


def _arguments(source: DataSource) -> list[dict[str, Any]]:
    schema: Any = source.arguments
    meanings = field_docstrings(schema)
    return [
        {"name": one.name, "type": one.type, "default": one.default, "meaning": meanings.get(one.name, "")}
        for one in fields(schema)
    ]


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps({'sources': list_sources()})}\n")

"""Which format a file has, by the end of its name."""

from __future__ import annotations

from .arrow_files import ArrowFiles
from .json_lines import JsonLines
from .parquet_files import ParquetFiles
from .shard_format import ShardFormat

FORMATS: dict[str, ShardFormat] = {
    "parquet": ParquetFiles(),
    "json lines": JsonLines(),
    "arrow": ArrowFiles(),
}
NEEDS_PYARROW = ("parquet", "arrow")
ENDINGS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".jsonl": "json lines",
    ".ndjson": "json lines",
}


def format_of(name: str) -> str | None:
    """Name the format of a file; None where its name has none of the known endings."""
    return next((found for ending, found in ENDINGS.items() if name.lower().endswith(ending)), None)

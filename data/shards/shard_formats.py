"""Which format a file has, by the end of its name."""

from __future__ import annotations

from .arrow_files import ArrowFiles
from .frames import gzip_frames, zstd_frames
from .json_lines import CompressedLines, JsonLines
from .parquet_files import ParquetFiles
from .shard_format import ShardFormat
from .tar_files import TarFiles

FORMATS: dict[str, ShardFormat] = {
    "parquet": ParquetFiles(),
    "json lines": JsonLines(),
    "arrow": ArrowFiles(),
    "gzipped json lines": CompressedLines(gzip_frames),
    "zstd json lines": CompressedLines(zstd_frames),
    "tar": TarFiles(),
}
NEEDS_PYARROW = ("parquet", "arrow", "zstd json lines")
COMPRESSED = ("gzipped json lines", "zstd json lines")
"""Files whose parts begin where a frame does."""
ENDINGS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".jsonl.gz": "gzipped json lines",
    ".jsonl.zst": "zstd json lines",
    ".tar": "tar",
}


def format_of(name: str) -> str | None:
    """Name the format of a file; None where its name has none of the known endings."""
    return next((found for ending, found in ENDINGS.items() if name.lower().endswith(ending)), None)

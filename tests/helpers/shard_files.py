"""Sets of shards whose rows tell their number."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GROUP = 50


def rows(begin: int, end: int, classes: int = 10) -> list[dict[str, Any]]:
    """Rows as a list: a vector that begins with the row's number, a label and a text."""
    return [
        {"x": [float(n), n % 7 / 7, 1.0], "label": n % classes, "name": f"r{n}"} for n in range(begin, end)
    ]


def cuts(n: int, shards: int) -> list[int]:
    """Cut rows into files of unequal sizes."""
    inner = np.random.default_rng(n).choice(np.arange(1, n), shards - 1, replace=False)
    return [0, *sorted(inner.tolist()), n]


def write_parquet(folder: Path, n: int, shards: int, group: int = GROUP) -> list[Path]:
    """Write rows 0 to n - 1 as Parquet files with row groups of at most ``group``; skip without pyarrow."""
    pa = pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (begin, end) in enumerate(pairwise(cuts(n, shards))):
        paths.append(folder / f"{number:03}.parquet")
        parquet.write_table(
            pa.Table.from_pylist(rows(begin, end)), paths[-1], row_group_size=group, write_page_checksum=True
        )
    return paths


def write_arrow(folder: Path, n: int, shards: int, group: int = GROUP) -> list[Path]:
    """Write rows 0 to n - 1 as Arrow files in the stream format; skip without pyarrow."""
    pa = pytest.importorskip("pyarrow", reason="Arrow files need pyarrow")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (begin, end) in enumerate(pairwise(cuts(n, shards))):
        paths.append(folder / f"{number:03}.arrow")
        table = pa.Table.from_pylist(rows(begin, end))
        with pa.ipc.new_stream(str(paths[-1]), table.schema) as writer:
            writer.write_table(table, max_chunksize=group)
    return paths


def write_json_lines(folder: Path, n: int, shards: int) -> list[Path]:
    """Write rows 0 to n - 1 as JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (begin, end) in enumerate(pairwise(cuts(n, shards))):
        paths.append(folder / f"{number:03}.jsonl")
        paths[-1].write_text("".join(json.dumps(row) + "\n" for row in rows(begin, end)))
    return paths


def write_tar(folder: Path, n: int, shards: int) -> list[Path]:
    """Write rows 0 to n - 1 as tar files in WebDataset's layout: the vector as `npy`, the label as `cls`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (begin, end) in enumerate(pairwise(cuts(n, shards))):
        paths.append(folder / f"{number:03}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            for at, row in enumerate(rows(begin, end), begin):
                vector = io.BytesIO()
                np.save(vector, np.array(row["x"]))
                for ending, content in (("npy", vector.getvalue()), ("cls", str(row["label"]).encode())):
                    member = tarfile.TarInfo(f"{at:06}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return paths


def write_gzipped(folder: Path, n: int, shards: int) -> list[Path]:
    """Write rows 0 to n - 1 as gzipped JSON lines."""
    paths = []
    for path in write_json_lines(folder, n, shards):
        paths.append(path.with_name(f"{path.name}.gz"))
        paths[-1].write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return paths

"""``launch compare``: in what two runs differ, from their settings to the first step whose loss is another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...training.tracking import read_events
from ..console import format_metric, print_json, print_results
from ..runs import find_run, read_json, read_status

_ORDER = ("config.train.seed", "config.data.batch_size", "data.train.length", "data.fingerprint")
"""What decides which sample comes when, besides the samples themselves."""
_DATA = ("data.name", "data.fingerprint", "data.train.length")
"""What of a spec says which samples there are."""
_SMALL = 1e-6  # relative; below it sums in another order explain a loss
_WIDEST = 26  # characters of a value in a table
Row = tuple[str, Any, Any]


def compare_runs(one: str, other: str, *, as_json: bool) -> int:
    """Print in what two runs differ; return the exit status: 0, whether they do or not."""
    folders = find_run(one), find_run(other)
    document = _compared(*folders)
    if as_json:
        print_json({"schema_version": 1, "runs": [folder.name for folder in folders], **document})
    else:
        print_results(_lines(folders[0].name, folders[1].name, document))
    return 0


def _compared(one: Path, other: Path) -> dict[str, Any]:
    specs = [_flat(read_json(folder / "spec.json")) for folder in (one, other)]
    manifests = [_flat(read_json(folder / "manifest.json")) for folder in (one, other)]
    settings = [row for row in _differences(*specs) if row[0].startswith("config.")]
    around = (
        "versions.",
        "python",
        "lockstep",
        "git.",
        "hardware.",
        "plan.processes",
        "plan.device",
        "plan.threads",
    )
    environment = [row for row in _differences(*manifests) if row[0].startswith(around)]
    data = [row for row in _differences(*specs) if row[0] in _DATA]
    order = [row for row in _differences(*specs) if row[0] in _ORDER or row[0].startswith("config.data.fold")]
    metrics = [dict(read_status(folder).metrics) for folder in (one, other)]
    return {
        "settings": _documents(settings, "config."),
        "environment": _documents(environment, ""),
        "data": _documents(data, "data."),
        "order": _documents(order, "config."),
        "loss": _first_difference(one, other),
        "metrics": [
            {"key": key, "values": [metrics[0].get(key), metrics[1].get(key)]}
            for key in dict.fromkeys((*metrics[0], *metrics[1]))
            if not key.endswith("/count")
        ],
    }


def _documents(rows: list[Row], prefix: str) -> list[dict[str, Any]]:
    return [{"key": key.removeprefix(prefix), "values": [one, other]} for key, one, other in rows]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Map each leaf's dotted path to it; a list counts as one."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    found: dict[str, Any] = {}
    for key, part in value.items():
        found |= _flat(part, f"{path}.{key}" if path else str(key))
    return found


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Row]:
    return [
        (key, one.get(key), other.get(key))
        for key in dict.fromkeys((*one, *other))
        if one.get(key) != other.get(key)
    ]


def _losses(folder: Path) -> Iterator[tuple[tuple[str, int, int], float | None]]:
    """Yield each logged loss with the steps that it is the mean of: those of an interval, or of an epoch."""
    last = 0
    for event in read_events(folder / "metrics.jsonl"):
        if event["event"] not in ("step", "epoch") or "train/loss" not in event:
            continue
        step = event["step"]
        yield (event["event"], last if event["event"] == "step" else 0, step), event["train/loss"]
        last = step


def _first_difference(one: Path, other: Path) -> dict[str, Any]:
    """Return how many losses both have, and the first that differ: at all, and by more than bits."""
    known = dict(_losses(one))
    compared = 0
    first: dict[str, Any] | None = None
    for steps, loss in _losses(other):
        if steps not in known:
            continue
        compared += 1
        if known[steps] == loss:
            continue
        row = {"step": steps[-1], "values": [known[steps], loss]}
        first = first or row
        if _apart(known[steps], loss):
            return {"compared": compared, "first": first, "first_beyond_rounding": row}
    return {"compared": compared, "first": first, "first_beyond_rounding": None}


def _apart(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return True
    return abs(one - other) > _SMALL * max(abs(one), abs(other))


def _lines(one: str, other: str, document: Mapping[str, Any]) -> list[str]:
    lines = []
    for title in ("settings", "environment", "data"):
        rows = document[title]
        lines.append(f"{title}: " + ("the same" if not rows else f"{len(rows)} differ"))
        lines += _table(one, other, rows)
    order = document["order"]
    why = ", ".join(row["key"] for row in order)
    lines.append(f"order of samples: {f'another one from the first step on: {why}' if order else 'the same'}")
    lines += _loss_lines(document["loss"])
    if document["metrics"]:
        lines.append("newest metrics:")
        shown = [
            {"key": row["key"], "values": [_metric(row["key"], value) for value in row["values"]]}
            for row in document["metrics"]
        ]
        lines += _table(one, other, shown)
    return lines


def _metric(key: str, value: float | None) -> str | None:
    return None if value is None else format_metric(key, value)


def _loss_lines(loss: Mapping[str, Any]) -> list[str]:
    first, beyond = loss["first"], loss["first_beyond_rounding"]
    if not loss["compared"]:
        return ["loss: no mean over the same steps was logged by both (log.every_steps)"]
    if first is None:
        return [f"loss: equal to the bit wherever both have logged it ({loss['compared']:,} times)"]
    lines = [f"loss: differs from step {first['step']:,} on ({_pair(first)})"]
    if beyond is None:
        return [*lines, "  by less than 1e-6 of it, as sums in another order do"]
    if beyond["step"] == first["step"]:
        return lines
    return [*lines, f"  by more than 1e-6 of it from step {beyond['step']:,} on ({_pair(beyond)})"]


def _pair(row: Mapping[str, Any]) -> str:
    return " and ".join("nan" if value is None else f"{value:.8g}" for value in row["values"])


def _table(one: str, other: str, rows: list[dict[str, Any]]) -> list[str]:
    """Lay out key and both values; a value that is too long is cut in its middle."""
    if not rows:
        return []
    cells = [["", one, other], *([row["key"], *map(_shown, row["values"])] for row in rows)]
    widths = [max(len(_cut(row[place])) for row in cells) for place in range(3)]
    return [
        "  " + "  ".join(f"{_cut(cell):<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "-" if value is None else json.dumps(value)


def _cut(text: str) -> str:
    half = (_WIDEST - 1) // 2
    return text if len(text) <= _WIDEST else f"{text[:half]}…{text[-half:]}"

"""``launch plot``: the curves of runs as a picture and in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data.common import UsageError
from ...training.tracking import Curve, RunRecord, panels, read_record
from ..console import PICTURES, new_file, print_json, print_results
from ..runs import ANY_RUN, find_run, is_sweep
from ..sweep import read_sweep
from .curve_picture import draw_curves
from .text_chart import Drawn, text_chart

_POINTS = 1000  # of a curve: as many as a picture has pixels
_LISTED = 12  # names in a message
_OVERLAID = 26  # runs that have a letter each


def plot_runs(
    names: Sequence[str],
    metrics: Sequence[str],
    out: Path | None,
    smooth: int | None,
    *,
    force: bool = False,
    as_json: bool,
) -> int:
    """Draw the curves of runs; return the exit status.

    Args:
        names: of runs; of a sweep, those of its points.
        metrics: full names or last parts; none is all.
        out: the picture's file; the default one is renewed.
        smooth: rows that a mean is over; None is a fortieth of the curve's.
        force: replace a file that was named and is there.
        as_json: print the points in place of the charts.

    Raises:
        UsageError: there is nothing to draw, and why.
    """
    records = [read_record(folder, _POINTS) for folder in run_folders(names)]
    _refuse_empty(records)
    chosen = panels(records, metrics)
    _refuse_unknown(records, metrics, chosen)
    path = out or Path(f"{_stem(names)}-curves.png")
    with new_file(path, PICTURES, force=force or out is None) as temporary:
        draw_curves(records, chosen, smooth, temporary)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "picture": str(path.absolute()),
                "runs": [_document(r, chosen) for r in records],
            }
        )
    else:
        print_results(_lines(records, chosen, smooth, path))
    return 0


def run_folders(names: Sequence[str]) -> list[Path]:
    """Find the folders of runs; of a sweep, those of its points that were started."""
    found: list[Path] = []
    for name in names:
        folder = find_run(name, ANY_RUN)
        if is_sweep(folder):
            sweep = read_sweep(folder)
            points = (sweep.run(index) for index in range(len(sweep.points)))
            found += [point for point in points if (point / "spec.json").is_file()]
        else:
            found.append(folder)
    return list(dict.fromkeys(found))


def _stem(names: Sequence[str]) -> str:
    found = [find_run(name, ANY_RUN).name for name in names[:3]]
    return "-".join(found) + ("-and-more" if len(names) > 3 else "")  # noqa: PLR2004 - a file's name has an end


def _refuse_empty(records: Sequence[RunRecord]) -> None:
    if any(record.curves for record in records):
        return
    names = ", ".join(record.name for record in records[:_LISTED]) or "the sweep"
    raise UsageError(
        f"no picture: {names} has logged no number so far",
        "a training logs its first row after log.every_steps steps; a script of `launch run` logs none",
    )


def _refuse_unknown(
    records: Sequence[RunRecord], metrics: Sequence[str], chosen: Mapping[str, Sequence[str]]
) -> None:
    found = {*chosen, *(key for keys in chosen.values() for key in keys)}
    if missing := [name for name in metrics if name not in found]:
        known = sorted({key for record in records for key in record.curves})
        raise UsageError(
            f"no picture of {', '.join(missing)}: not logged by {', '.join(r.name for r in records[:_LISTED])}",
            f"--metric takes {', '.join(known[:_LISTED])}{', …' if len(known) > _LISTED else ''}",
        )


def _lines(
    records: Sequence[RunRecord], chosen: Mapping[str, Sequence[str]], smooth: int | None, path: Path
) -> Iterator[str]:
    alone = len(records) == 1
    for keys in chosen.values():
        for key in keys:
            lines = [_line(record, key, smooth) for record in records[:_OVERLAID]]
            about = _about(records[0].curves[key]) if alone else ""
            yield from text_chart(f"{key}{about}", lines, records[0].resumes if alone else ())
    if len(records) > _OVERLAID:
        yield f"note: the charts here have the first {_OVERLAID} runs; the picture has all {len(records)}"
    missing = {r.name: count for r in records if (count := sum(c.missing for c in r.metrics.values()))}
    for name, count in missing.items():
        yield f"note: {name}: {count:,} values are not numbers, and are left out"
    if alone and records[0].resumes:
        yield f"▲ resumed from step {', '.join(f'{step:,}' for step in records[0].resumes)}"
    yield f"picture: {path}"


def _line(record: RunRecord, key: str, smooth: int | None) -> Drawn:
    if (curve := record.curves.get(key)) is None:
        return record.name, [], []
    return record.name, *curve.line(smooth, smooth=not key.startswith("lr"))


def _about(curve: Curve) -> str:
    """Say what the drawn means hide: the extremes of the rows, and the newest of them."""
    if curve.extremes is None:
        return ""
    low, high = curve.extremes
    return f"  {low:.6g} to {high:.6g}, now {curve.last:.6g}"


def _document(record: RunRecord, chosen: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    keys = [key for keys in chosen.values() for key in keys if key in record.curves]
    return {
        "run": record.name,
        "resumed_from": record.resumes,
        "metrics": {key: record.curves[key].to_json() for key in keys},
    }

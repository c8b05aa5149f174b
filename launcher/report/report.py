"""``launch report``: a run or a sweep as one HTML page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...training.tracking import RunRecord, panels, read_record
from ..console import new_file, print_json, print_results
from ..runs import ANY_RUN, find_run, is_sweep, read_json, read_status
from ..sweep import read_sweep, results_of, to_json
from . import html_page as html
from . import run_sections as run
from .plot import run_folders

_POINTS, _FEWEST = 400, 10  # of a curve
_DASHES = ("", "6 3", "2 3")  # of the metrics of a run, which has one colour
LARGEST = 1_900_000
"""Bytes of a page: what is larger is drawn with fewer points."""


def report_run(name: str, out: Path | None, *, force: bool = False, as_json: bool) -> int:
    """Write the page of a run or a sweep; return the exit status.

    Args:
        name: of the run or the sweep.
        out: the page's file; the default one is renewed.
        force: replace a file that was named and is there.
        as_json: say it as a document.
    """
    folder = find_run(name, ANY_RUN)
    path = out or Path(f"{folder.name}-report.html")
    with new_file(path, (".html", ".htm"), force=force or out is None) as temporary:
        size = _write_page(folder, temporary)
    if as_json:
        print_json({"schema_version": 1, "run": folder.name, "report": str(path.absolute()), "bytes": size})
    else:
        print_results([f"{path}: {size / 1000:,.0f} kB; it needs no network, open it in a browser"])
    return 0


def _write_page(folder: Path, path: Path) -> int:
    """Write the page with as many points as it may have; return its bytes."""
    make = (_sweep_page if is_sweep(folder) else _run_page)(folder)
    points = _POINTS
    page = make(points)
    while len(page.encode()) > LARGEST and points > _FEWEST:
        points //= 2
        page = make(points)
    return path.write_bytes(page.encode())


def _run_page(folder: Path) -> Callable[[int], str]:
    """Return what makes the page with at most twice this many points in a curve."""
    status, spec = read_status(folder), read_json(folder / "spec.json")
    views = run.evaluation(folder, spec) if spec.get("config") else ""

    def make(points: int) -> str:
        record = read_record(folder, points)
        sections = [
            run.head(status, record),
            _curves([record]),
            run.epochs(record),
            views,
            run.timeline(folder, record, status),
            run.settings(folder),
            run.environment(folder),
        ]
        return html.page(record.name, sections, {"panels": _panels([record])})

    return make


def _sweep_page(folder: Path) -> Callable[[int], str]:
    document = to_json(results_of(read_sweep(folder)))
    folders = run_folders([str(folder)])
    rows, keys = document["points"], document["keys"]
    metrics = list(dict.fromkeys(key for row in rows for key in row["metrics"] if not key.endswith("/count")))
    shown = [
        (
            row["run"],
            row["status"],
            *(row["values"].get(k) for k in keys),
            *(row["metrics"].get(k) for k in metrics),
        )
        for row in rows
    ]
    lines = [{"run": row[0], "values": [_plain(value) for value in row[2:]]} for row in shown]
    title = f'<h1>{html.text(folder.name)}</h1><p class="soft">sweep, {html.text(document["status"])}'
    first = [
        f"{title}, {len(rows)} points{_best(document)}</p>",
        html.section("Points", html.table(("run", "status", *keys, *metrics), shown)),
        html.section("Settings and metrics", '<div id="parallel"></div>'),
    ]
    last = [html.section("Failures", html.table(("run", "error"), _failures(rows)))]
    last += [run.environment(folders[0])] if folders else []

    def make(points: int) -> str:
        records = [read_record(each, points) for each in folders]
        data = {"panels": _panels(records), "parallel": {"axes": [*keys, *metrics], "points": lines}}
        return html.page(folder.name, [*first, _curves(records), *last], data)

    return make


def _best(document: Mapping[str, Any]) -> str:
    return html.text(f"; the best by {document['metric']} is {document['best']}") if document["best"] else ""


def _failures(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(row["run"], str(row["error"].get("message", ""))) for row in rows if row["error"]]


def _plain(value: Any) -> Any:
    """Return a value as an axis can show it: a number or a text."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value if value is None or abs(value) < float("inf") else None
    return str(value)


def _curves(records: Sequence[RunRecord]) -> str:
    if not any(record.curves for record in records):
        return html.section("Curves", "<p>no number was logged so far</p>", '<div id="charts" hidden></div>')
    said = "Pale: as logged; strong: means over a fortieth of it. Drag to zoom, double-click for the whole."
    hint = f'<p class="soft">{said}</p>'
    return html.section("Curves", hint, '<div class="charts" id="charts"></div>')


def _panels(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return what the page's script draws: a panel for each kind of metric, lines for the runs that have it."""
    alone = len(records) == 1
    found = []
    for number, (title, keys) in enumerate(panels(records).items()):
        drawn = [(record, key) for record in records for key in keys if key in record.curves]
        lines = [
            {
                **record.curves[key].to_json(),
                "name": key if alone else f"{record.name} {key}",
                "flat": title == "lr",
                **(
                    {} if alone else {"colour": records.index(record), "dashes": _DASHES[keys.index(key) % 3]}
                ),
            }
            for record, key in drawn
        ]
        marks = records[0].resumes if alone else []
        found.append({"title": title, "number": number, "lines": lines, "marks": marks})
    return found

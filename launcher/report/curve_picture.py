"""Curves of runs as a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...training.tracking import RunRecord

_COLOURS = 10  # of matplotlib's cycle
_DASHES = ("-", "--", ":", "-.")
_INSIDE = 8  # lines whose legend does not hide them
_LINE = 0.19  # inches of a line of a legend
_FEW = 3  # points that are marked: a line would not show them


def draw_curves(
    records: Sequence[RunRecord], panels: Mapping[str, Sequence[str]], smooth: int | None, out: Path
) -> None:
    """Write the picture: a panel below the other, raw values pale, their means strong, resume points dotted.

    Args:
        records: a colour each.
        panels: title to the metrics that it shows, a dash each.
        smooth: rows that a mean is over; None leaves it to the curve.
        out: a PNG file, or another kind that matplotlib writes.
    """
    from matplotlib.figure import Figure

    lines = len(records) * max(map(len, panels.values()))
    height = max(2.6, _LINE * lines)
    figure = Figure(figsize=(9, height * len(panels) + 0.8), layout="constrained")
    every = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (title, keys) in zip(every, panels.items(), strict=True):
        for number, record in enumerate(records):
            _draw_run(axes, record, number, keys, smooth, alone=len(records) == 1)
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        if len(records) > 1 or len(keys) > 1:
            beside = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if lines > _INSIDE else {}
            axes.legend(fontsize=8, **beside)
    every[-1].set_xlabel("step")
    names = ", ".join(record.name for record in records)
    figure.suptitle(names if len(names) < 90 else f"{len(records)} runs", fontsize=11)  # noqa: PLR2004 - its width
    figure.savefig(out, dpi=110)


def _draw_run(
    axes: Any, record: RunRecord, number: int, keys: Sequence[str], smooth: int | None, *, alone: bool
) -> None:
    for place, key in enumerate(keys):
        if (curve := record.curves.get(key)) is None:
            continue
        colour = f"C{(place if alone else number) % _COLOURS}"
        dash = "-" if alone else _DASHES[place % len(_DASHES)]
        name = key if alone else f"{record.name} {key}"
        marker = "o" if len(curve.steps) <= _FEW else ""
        if key.startswith("lr") or smooth in (0, 1) or len(curve.steps) <= 2 * _FEW:
            axes.plot(curve.steps, curve.mean, dash, color=colour, marker=marker, label=name)
            continue
        axes.plot(curve.steps, curve.mean, dash, color=colour, alpha=0.4, linewidth=0.8)
        if curve.is_thinned:
            axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.25, linewidth=0.6)
        axes.plot(curve.steps, curve.smoothed(smooth), dash, color=colour, marker=marker, label=name)
    for step in record.resumes:
        axes.axvline(step, color="grey" if alone else f"C{number % _COLOURS}", linestyle=":", linewidth=1)

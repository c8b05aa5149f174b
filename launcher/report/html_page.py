"""Builds one HTML page that asks nobody for anything: every text is escaped, style and script stand in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""A browser refuses every request that the page could make, even if a text got past the escaping."""
Cell = Any


def page(title: str, sections: Iterable[str], data: dict[str, Any]) -> str:
    """Return a page.

    Args:
        title: as text.
        sections: as HTML.
        data: what the page's script draws.
    """
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{text(title)}</title><style>{_file('page.css')}</style></head><body>",
            *sections,
            f'<script type="application/json" id="data">{_in_script(data)}</script>',
            f"<script>{_file('page.js')}</script></body></html>\n",
        ]
    )


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _in_script(data: dict[str, Any]) -> str:
    """Return JSON in which no text can end the element that it stands in."""
    plain = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return plain.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def text(value: Any) -> str:
    """Escape a text for an element or an attribute."""
    return escape(str(value), quote=True)


def section(title: str, *body: str) -> str:
    """Return a section; nothing where its body is empty."""
    found = "".join(body)
    return f"<section><h2>{text(title)}</h2>{found}</section>" if found else ""


def number(value: Any) -> str:
    """Format a value as text: six digits of a fraction."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)


def table(header: Sequence[str], rows: Iterable[Sequence[Cell]], kind: str = "") -> str:
    """Return a table; numbers are right-aligned. Nothing where there is no row."""
    found = list(rows)
    if not found:
        return ""
    numeric = [all(isinstance(row[at], int | float | None) for row in found) for at in range(len(header))]
    classes = [' class="n"' if is_number else "" for is_number in numeric]
    head = "".join(f"<th{how}>{text(name)}</th>" for how, name in zip(classes, header, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{how}>{text(number(cell))}</td>" for how, cell in zip(classes, row, strict=True))
        + "</tr>"
        for row in found
    )
    return f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def tiles(values: Iterable[tuple[str, Any]]) -> str:
    """Return a row of figures with their names."""
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{text(number(value))}</b><span>{text(name)}</span></div>'
            for name, value in values
        )
        + "</div>"
    )


def matrix(rows: Sequence[Sequence[float]], names: Sequence[str]) -> str:
    """Return a confusion matrix, each row shaded by its shares."""
    head = "".join(f"<th>{text(name)}</th>" for name in names)
    body = ""
    for name, row in zip(names, rows, strict=True):
        total = sum(row) or 1
        cells = "".join(
            f'<td style="background:rgba(var(--heat),{0.75 * value / total:.3f})"'
            f' title="{value / total:.1%} of {text(name)}">{text(number(value))}</td>'
            for value in row
        )
        body += f"<tr><th>{text(name)}</th>{cells}</tr>"
    corner = '<th class="soft">true \\ said</th>'
    return f'<div class="wide"><table class="matrix"><tr>{corner}{head}</tr>{body}</table></div>'


def pictures(cards: Iterable[tuple[str | None, Sequence[str]]]) -> str:
    """Return cards: a picture as a data URI, or none, and lines below it."""
    shown = [
        f"<div>{f'<img alt={chr(34)}{chr(34)} src={chr(34)}{text(uri)}{chr(34)}>' if uri else ''}"
        + "<br>".join(text(line) for line in lines)
        + "</div>"
        for uri, lines in cards
    ]
    return f'<div class="worst">{"".join(shown)}</div>' if shown else ""

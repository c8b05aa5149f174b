"""How Sphinx makes the site of these pages: ``python -m sphinx -W -n docs site``."""

from __future__ import annotations

import re

project = "Lockstep"
author = "the authors of Lockstep"
extensions = ["myst_parser"]
exclude_patterns = ["conf.py", "*.ipynb"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {
    "description": "Distributed training in which the number of processes is a resource",
    "fixed_sidebar": True,
    "page_width": "72rem",
}
html_show_sourcelink = False
suppress_warnings = ["misc.highlighting_failure", "myst.header"]  # sessions are no programs

_PAGE = re.compile(r"`docs/([\w-]+\.md)`")


def _link_pages(_app: object, _name: str, text: list[str]) -> None:
    """Make links of the pages that a page names: in a clone, they are paths."""
    text[0] = _PAGE.sub(r"[\1](\1)", text[0])


def setup(app: object) -> None:
    """Add what is done to each page."""
    app.connect("source-read", _link_pages)  # type: ignore[attr-defined]
    app.connect("include-read", lambda a, _path, _parent, text: _link_pages(a, "", text))  # type: ignore[attr-defined]

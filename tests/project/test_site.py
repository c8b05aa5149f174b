"""The pages of ``docs/`` make a site without a broken link, and those that come from the code are up to date."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from lockstep.data.common import errors
from tests.helpers.command_reference import PAGE, command_reference
from tests.helpers.launch import run_command
from tests.helpers.paths import ROOT

DOCS = ROOT / "docs"


def test_the_reference_of_commands_is_what_the_help_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == command_reference(), (
        "python -m tests.helpers.command_reference"
    )


def test_every_kind_of_error_has_its_status_on_the_page() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^## (\d): `(\w+)`$", page, re.MULTILINE))
    assert told == {str(kind.exit_status): name for name, kind in errors._KINDS.items()}
    assert re.search(rf"^## {errors.STOPPED}: ", page, re.MULTILINE)


def test_the_site_has_every_page_and_no_broken_link(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="Sphinx builds the site: extra `docs`")
    pytest.importorskip("myst_parser", reason="it reads the pages: extra `docs`")
    done = run_command([sys.executable, "-m", "sphinx", "-W", "-n", "-q", DOCS, tmp_path / "site"])
    assert done.returncode == 0, done.stderr
    for page in DOCS.glob("*.md"):
        assert (tmp_path / "site" / f"{page.stem}.html").is_file()
    concepts = (tmp_path / "site" / "concepts.html").read_text()
    assert 'href="exactness.html"' in concepts  # of a path in a clone
    assert concepts.count("<img") == len(list((DOCS / "pictures").glob("*.svg")))

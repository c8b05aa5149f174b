"""The notebook of the documentation is run by a real kernel, and says what it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import WATCHDOG
from tests.helpers.paths import ROOT

nbformat = pytest.importorskip(
    "nbformat", reason="nbformat, nbclient and ipykernel run notebooks: extra `test`"
)
NOTEBOOK = ROOT / "docs/notebook.ipynb"


def _results(book: Any) -> list[str]:
    """What its cells return, with numbers that rounding may change left out."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    returned = [one.data["text/plain"] for one in outputs if one.output_type == "execute_result"]
    return [re.sub(r"\d*\.\d{2,}", "0.0", text) for text in returned]


def test_the_notebook_runs_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # else it warns of its own future
    shown = nbformat.read(NOTEBOOK, 4)
    book = nbformat.read(NOTEBOOK, 4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(book, kernel_name="python3", timeout=WATCHDOG, resources=resources).execute()
    assert _results(book) == _results(shown)
    assert len(_results(book)) == 5
    printed = "".join(output.text for output in book.cells[3].outputs if output.output_type == "stream")
    assert re.search(r"^epoch  train loss   val loss  val accuracy  val recall", printed, re.MULTILINE)

"""Where things lie in this repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HELPERS = ROOT / "tests" / "helpers"
PROGRAMS = HELPERS / "programs"
"""Scripts and modules that tests start in processes of their own."""

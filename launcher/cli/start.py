"""The console command ``launch``: it hears signals before it imports anything that takes its time."""

from __future__ import annotations

import importlib

from ...data.common import end_at_signals


def main() -> None:
    """Run the command line."""
    end_at_signals()
    importlib.import_module(f"{__package__}.app").main()

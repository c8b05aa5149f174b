"""What is kept of the last evaluation for views: confusion matrix and worst samples, in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...data.common import write_json
from ..tracking import plain

VIEWS_FILE = "evaluation.json"


def keep_views(folder: Path, views: Mapping[str, Mapping[str, Any]], *, step: int, epoch: int) -> None:
    """Write the views of an evaluation in the place of those of the one before.

    Args:
        folder: of the run, or of an evaluation's attempt.
        views: by split.
        step: of the weights that were evaluated.
        epoch: they were trained for that many.
    """
    splits = {
        split: {
            **view,
            "worst": [{key: plain(value) for key, value in sample.items()} for sample in view["worst"]],
        }
        for split, view in views.items()
    }
    write_json(folder / VIEWS_FILE, {"schema_version": 1, "step": step, "epoch": epoch, "splits": splits})

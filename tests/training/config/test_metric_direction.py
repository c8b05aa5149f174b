from __future__ import annotations

import pytest

from lockstep.training.config.metric_direction import direction_of
from lockstep.training.metrics.metrics import CONFUSION_MATRIX, METRICS


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("val/loss", "min"),
        ("train/loss", "min"),
        ("val/mae", "min"),
        ("val/error_rate", "min"),
        ("val/focal_loss", "min"),
        ("val/mycrossentropyloss", "min"),
        ("val/perplexity", "min"),
        ("val/rmse", "min"),
        ("val/accuracy", "max"),
        ("val/top5_accuracy", "max"),
        ("val/f1_macro", "max"),
        ("val/mIoU", "max"),
        ("val/R2", "max"),
        ("val/recall_at_k", "max"),
        ("val/accuracy_loss", "min"),
        ("val/accuracy_gap", None),
        ("val/error_recall", None),
        ("val/lossless", None),
        ("val/q", None),
        ("val/rate", None),
        ("val/", None),
    ],
)
def test_a_name_tells_which_way_is_better_or_does_not(name: str, direction: str | None) -> None:
    assert direction_of(name) == direction


def test_every_built_in_metric_has_a_direction() -> None:
    ways = {name: direction_of(f"val_other/{name}") for name in METRICS if name != CONFUSION_MATRIX}
    less = {"mae", "perplexity", "rmse"}
    assert ways == {name: "min" if name in less else "max" for name in ways}
    assert less < ways.keys()

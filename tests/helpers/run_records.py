"""What must be equal in the records of two runs, and what may differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.training.checkpoint.storage import read_checkpoint

DIGESTS = ("weights_sha256", "state_sha256", "order_sha256", "consumed_digest")
"""Equal only where the weights, the optimizer, the order and what was read are equal to the bit."""
REPRODUCED = (
    *DIGESTS,
    "ranks",
    "metrics",
    "steps",
    "epochs",
)

UNORDERED_EVENTS = ("start", "checkpoint_started", "checkpoint", "straggler")
"""By attempt; written from a thread; by speed."""

VARYING_VALUES = ("time", "samples_per_second", "train_seconds", "val_seconds", "memory_peak_mb", "run")


def final_weights(document: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The model of the newest checkpoint of a run, which is given as ``--json`` prints it."""
    newest = max(Path(document["run_dir"], "checkpoints").iterdir())
    return read_checkpoint(newest).model


def check_equal_training(one: dict[str, Any], many: dict[str, Any], tolerance: float) -> None:
    """Two trainings that differ in the number of processes only read, learned and measured the same."""
    assert many["order_sha256"] == one["order_sha256"]
    assert many["consumed_digest"] == one["consumed_digest"]
    assert sum(many["ranks"]) == many["samples"] == one["samples"] == sum(one["ranks"])
    assert len(many["ranks"]) == many["world_size"]
    assert many["metrics"].keys() == one["metrics"].keys()
    for key, value in one["metrics"].items():
        assert many["metrics"][key] == pytest.approx(value, rel=10 * tolerance, abs=10 * tolerance), key
    weights = final_weights(many)
    for name, tensor in final_weights(one).items():
        assert torch.allclose(weights[name], tensor, rtol=0, atol=tolerance), name

"""What a training begins with, and how it has ended, as ``launch train --json`` prints it."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from ...data.common import STOPPED
from ..session import Account, Training
from ..tracking import plain


class Reached(Protocol):
    """The part of a run's progress that its result tells."""

    epoch: int
    step: int
    metrics: dict[str, float]


def start_facts(training: Training) -> dict[str, Any]:
    """Return what the record says of an attempt when it begins."""
    session = training.session
    config = session.spec.config
    return {
        "run": session.spec.run,
        "world_size": session.group.world_size,
        "precision": session.numerics.name,
        "threads": torch.get_num_threads(),
        "unused_parameters": training.unused if config.train.unused == "auto" else [],
        "depends_on_world": training.depends_on_world,
        "max_micro_batch": config.data.micro_limit,
    }


def run_result(
    hashes: dict[str, str], progress: Reached, account: Account, seconds: float, *, stopped: bool
) -> dict[str, Any]:
    """Return the result's values.

    Args:
        hashes: of what was trained.
        progress: of the run.
        account: of the samples that were read.
        seconds: that this attempt has taken.
        stopped: whether the run has been asked to end.
    """
    return {
        **({"status": "stopped", "exit_code": STOPPED} if stopped else {}),
        "epochs": progress.epoch,
        "steps": progress.step,
        "samples": sum(account.ranks),
        "ranks": account.ranks,
        "metrics": {key: plain(value) for key, value in progress.metrics.items()},
        **hashes,
        "order_sha256": account.order_sha256,
        "consumed_digest": f"{account.consumed_digest:032x}",
        "seconds": round(seconds, 3),
    }

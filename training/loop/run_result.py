"""What a training has come to, as ``launch train --json`` prints it."""

from __future__ import annotations

from typing import Any, Protocol

from ..session import Account
from ..tracking import plain


class Reached(Protocol):
    """The part of a run's progress that its result tells."""

    epoch: int
    step: int
    metrics: dict[str, float]


def run_result(hashes: dict[str, str], progress: Reached, account: Account, seconds: float) -> dict[str, Any]:
    """Return the result's values.

    Args:
        hashes: of what was trained.
        progress: of the run.
        account: of the samples that were read.
        seconds: that this attempt has taken.
    """
    return {
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

"""How long a rank waits for its first batch of an order, and what that takes, in a process of its own for each size.

python bench/orders.py lockstep 1000000000000 | distributed_sampler 100000000
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from itertools import islice
from typing import Any

WORLD = 10_000
BATCH = 64  # of one rank
SIZES = (10**5, 10**8, 10**10, 10**12)
COMPARED = 10**8
RANK = 7_777


def _lockstep(n: int) -> None:
    from lockstep.data.order import EpochBatches, EpochOrder

    batches = EpochBatches(n, min(n, BATCH * WORLD))
    EpochOrder(n, 0, 1).indices(*batches.shard(0, RANK, WORLD))


def _distributed_sampler(n: int) -> None:
    from torch.utils.data import DistributedSampler

    sampler = DistributedSampler(range(n), num_replicas=WORLD, rank=RANK)  # type: ignore[arg-type]
    sampler.set_epoch(1)
    list(islice(sampler, BATCH))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_here(arm: str, n: int) -> dict[str, float]:
    """Draw a first batch, twice; the first time imports and warms up, on a few samples."""
    draw = {"lockstep": _lockstep, "distributed_sampler": _distributed_sampler}[arm]
    draw(10**5)
    before, begin = _peak_mb(), time.perf_counter()
    draw(n)
    return {"ms": round((time.perf_counter() - begin) * 1e3, 2), "more MB": round(_peak_mb() - before, 1)}


def measure_orders() -> dict[str, Any]:
    """Measure each size in a process of its own."""

    def child(arm: str, n: int) -> Any:
        command = [sys.executable, __file__, arm, str(n)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return {
        "ranks": WORLD,
        "lockstep": {f"{n:.0e}": child("lockstep", n) for n in SIZES},
        "DistributedSampler": {f"{COMPARED:.0e}": child("distributed_sampler", COMPARED)},
    }


if __name__ == "__main__":
    print(json.dumps(measure_here(sys.argv[1], int(sys.argv[2]))))

"""Runs a peer's program of an example on Lockstep's terms: its first weights, its order of samples, small data.

``python -m tests.examples.peer_program PEER ARGUMENTS`` in the example's folder; ``ARGUMENTS`` is JSON, function of
``exp.py`` to the arguments that make it small. The last line that is printed has the losses that the program reports.
The program itself stays as it is: what is replaced is torch's seed and torch's shuffling.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import RandomSampler

from lockstep.data.order.sample_order import FullOrder
from lockstep.data.order.seeding import mix

SEED = 0  # of the peers' programs, and Lockstep's default


def _seed_as_lockstep() -> None:
    original = torch.manual_seed
    torch.manual_seed = lambda seed: original(mix(SEED) if seed == SEED else seed)


def _shuffle_as_lockstep() -> None:
    epochs: dict[int, int] = {}

    def order(sampler: RandomSampler) -> Iterator[int]:
        epoch = epochs.get(id(sampler), 0)
        epochs[id(sampler)] = epoch + 1
        samples = len(sampler.data_source)
        yield from FullOrder(samples).indices(np.arange(samples), SEED, epoch).tolist()

    RandomSampler.__iter__ = order


def main() -> None:
    """Run it, and print what it reports."""
    peer, arguments = sys.argv[1], json.loads(sys.argv[2])
    sys.path.insert(0, str(Path.cwd()))
    if arguments:
        import exp

        for name, given in arguments.items():
            setattr(exp, name, partial(getattr(exp, name), **given))
    _seed_as_lockstep()
    _shuffle_as_lockstep()
    names: dict[str, Any] = runpy.run_path(f"with_{peer}.py", run_name="__main__")
    found = names["trainer"].callback_metrics if peer == "lightning" else names
    losses = {key: float(found[key]) for key in ("val_loss", "wanted", "train_generator") if key in found}
    sys.stdout.write(f"\n{json.dumps(losses)}\n")


if __name__ == "__main__":
    main()

"""The pace of a training: samples, tokens and floating-point operations per second, and the memory that they took."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch

from ...data.config import DatasetInfo
from ..session import Training

_MB = 1e6
_PASSES = 3
"""Forward, and twice as much backward."""
_TERA = 1e12
_HALF = ("bf16", "fp16")
_PEAKS = (
    # name contains, in half precision, in fp32 without TF32
    ("B200", 2250, 75),
    ("H200", 989, 67),
    ("GH200", 989, 67),
    ("H100 PCIe", 756, 51),
    ("H100 NVL", 835, 60),
    ("H100", 989, 67),
    ("A100", 312, 19.5),
    ("L40S", 362, 91.6),
    ("L4", 121, 30.3),
    ("A10G", 70, 31.2),
    ("A10", 125, 31.2),
)
"""NVIDIA's data sheets, in TFLOP/s; the first that fits counts."""


class Pace:
    """Measures without waiting for the device; what it says of a rank is rank 0's, what it says of samples everyone's.

    Args:
        training: whose steps these are.
    """

    def __init__(self, training: Training) -> None:
        group = training.session.group
        self._compilation = training.compilation
        self._cuda = group.device if group.device.type == "cuda" else None
        self._tokens = tokens_per_sample(training.session.spec.facts)
        name = torch.cuda.get_device_name(group.device) if self._cuda else ""
        peak = peak_flops(name, training.session.numerics.name)
        self._share = None if peak is None else _PASSES * training.flops / (peak * group.world_size)
        """Of all GPUs' time that a sample takes at their peak, in seconds."""
        self._last: tuple[int, float, float] | None = None

    def epoch(self, samples: int, started: float, trained: float) -> dict[str, Any]:
        """Return the pace of an epoch that was evaluated, too.

        Args:
            samples: trained since ``started``, on all ranks.
            started: by ``time.monotonic``.
            trained: when its last step was done.
        """
        compiling = self._compilation.take_seconds() if self._compilation else 0.0
        seconds = trained - started - compiling
        return {
            **({"samples_per_second": None} if samples == 0 else self._rates(samples / seconds)),
            "train_seconds": seconds,
            **({"compile_seconds": compiling} if compiling else {}),
            "val_seconds": time.monotonic() - trained,
            "memory_peak_mb": round(self._memory() / _MB, 1),
        }

    def step(self, samples: int) -> dict[str, Any]:
        """Return the pace since this was asked last; nothing at first.

        Args:
            samples: trained in this epoch, on all ranks.
        """
        spent = self._compilation.seconds if self._compilation else 0.0
        before, self._last = self._last, (samples, time.monotonic(), spent)
        if before is None or samples <= before[0]:
            return {}
        seconds = self._last[1] - before[1] - (spent - before[2])
        return self._rates((samples - before[0]) / seconds) if seconds > 0 else {}

    def pause(self) -> None:
        """Begin the time of the next ``step`` with the one after it: what comes in between is not training."""
        self._last = None

    def _rates(self, samples: float) -> dict[str, Any]:
        """Return what goes with this many samples per second."""
        return {
            "samples_per_second": samples,
            **({"tokens_per_second": samples * self._tokens} if self._tokens else {}),
            **({"flop_utilisation": samples * self._share} if self._share else {}),
        }

    def _memory(self) -> float:
        if self._cuda is not None:
            return float(torch.cuda.max_memory_allocated(self._cuda))
        return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def tokens_per_sample(facts: DatasetInfo) -> int | None:
    """Return how many tokens a sample has: the whole numbers of its one-dimensional input; None where it has none.

    None, too, where samples differ in length.
    """
    parts = facts.look.train.parts if facts.look else ()
    for part in parts:
        kinds = {(kind.type, kind.shape) for kind in part.kinds}
        if part.name.startswith("input") and len(kinds) == 1:
            type_, shape = kinds.pop()
            if type_ in ("int32", "int64") and len(shape) == 1 and shape[0][0] == shape[0][1] > 1:
                return shape[0][0]
    return None


def peak_flops(name: str, precision: str) -> float | None:
    """Return the most operations per second that a GPU can do, without sparsity; None where that is not known.

    Args:
        name: as torch gives it, such as ``NVIDIA H100 80GB HBM3``.
        precision: of the run.
    """
    words = f"{name.replace('-', ' ')} "
    found = next((row for row in _PEAKS if f"{row[0]} " in words), None)
    if found is None or precision not in (*_HALF, "fp32"):
        return None
    return _TERA * (found[1] if precision in _HALF else found[2])

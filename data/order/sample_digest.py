"""Proof of what was trained on: a hash chain over the planned order and a sum over what was really fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .sample_order import FullOrder, Indices, SampleOrder, shard

_MODULUS = 2**128
_LIMBS = 4
Words = NDArray[np.uint64]


def chain_order_hash(previous: bytes, step: int, indices: Indices) -> bytes:
    """Compute the next link: SHA-256 over the previous link, the run's step and the indices of its global batch.

    Args:
        previous: empty before the first step.
        step: counted from 0 over the run.
        indices: int64 [G], in order.
    """
    link = previous + step.to_bytes(8, "little") + indices.astype("<i8", copy=False).tobytes()
    return hashlib.sha256(link).digest()


def consumed(epoch: int, steps: Indices, positions: Indices, indices: Indices) -> int:
    """Sum a hash of (epoch, step, position, index) modulo 2**128; order and owner do not matter.

    Args:
        epoch: counted from 0.
        steps: int64 [k], counted from 0 within the epoch.
        positions: int64 [k] within the epoch.
        indices: int64 [k], the samples that were fetched there.
    """
    seed = _mix(np.array([epoch], np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    state = _mix(seed + steps.astype(np.uint64))
    state = _mix(state ^ positions.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03))
    low = _mix(state ^ indices.astype(np.uint64) * np.uint64(0x8CB92BA72F3D8DD7))
    high = _mix(low ^ state)
    return (_exact_sum(low) + (_exact_sum(high) << 64)) % _MODULUS


def planned_digest(
    order: SampleOrder | int, seed: int, epoch: int, batch_size: int, span: tuple[int, int]
) -> int:
    """Compute what ``consumed`` must be for the positions ``span`` of an epoch, from the plan alone."""
    planned = FullOrder(order) if isinstance(order, int) else order
    total = 0
    for start in range(*span, 65_536):
        positions = np.arange(start, min(start + 65_536, span[1]), dtype=np.int64)
        indices = planned.indices(positions, seed, epoch)
        total += consumed(epoch, positions // batch_size, positions, indices)
    return total % _MODULUS


def planned_digest_share(
    order: SampleOrder | int,
    seed: int,
    epoch: int,
    batch_size: int,
    span: tuple[int, int],
    rank: int,
    world_size: int,
) -> int:
    """Compute a rank's part of ``planned_digest``; the parts sum to it, but are not what the rank trains on."""
    return planned_digest(order, seed, epoch, batch_size, shard(*span, rank, world_size))


def to_limbs(value: int) -> list[int]:
    """Split a value into four 32-bit limbs, lowest first: they can be summed over ranks in 64 bits without overflow."""
    return [value >> 32 * limb & 0xFFFFFFFF for limb in range(_LIMBS)]


def from_limbs(limbs: Sequence[int]) -> int:
    """Join limbs that may have been summed: the value modulo 2**128."""
    return sum(int(limb) << 32 * place for place, limb in enumerate(limbs)) % _MODULUS


def _mix(values: Words) -> Words:
    """Apply splitmix64's finaliser."""
    mixed = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ mixed >> np.uint64(31)


def _exact_sum(words: Words) -> int:
    """Sum exactly: the halves of 2**32 words fit 64 bits."""
    low = int((words & np.uint64(0xFFFFFFFF)).sum(dtype=np.uint64))
    high = int((words >> np.uint64(32)).sum(dtype=np.uint64))
    return low + (high << 32)

"""The error about ranks that differ."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...data.common import DivergedError

_NAMED = 3  # tensors at most


@dataclass(frozen=True)
class Verdict:
    """The ranks that are wrong."""

    ranks: list[int]
    """None where that cannot be told."""
    how: str
    """How it is known, or why it is not."""
    is_suspicion: bool = False


@dataclass(frozen=True)
class Difference:
    """A difference between ranks, and when there was none yet."""

    step: int
    """After which they differ."""
    agreed: int | None
    """The last step after which they were compared and equal; None where this attempt found no such step."""
    begun: int
    """The step that this attempt began at."""
    tensors: list[str]
    """Those that differ."""

    @property
    def message(self) -> str:
        """Say it in words."""
        before = (
            f"it is the first comparison since step {self.begun:,}"
            if self.agreed is None
            else f"after step {self.agreed:,} all ranks were equal"
        )
        return f"after step {self.step:,} {self._shown()} differ; {before}"

    def _shown(self) -> str:
        more = len(self.tensors) - _NAMED
        return ", ".join(self.tensors[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def diverged_error(
    found: Difference, verdict: Verdict, places: Sequence[str], checkpoint: int | None
) -> DivergedError:
    """Return the error that ends the run.

    Args:
        found: what differs.
        verdict: which rank is wrong.
        places: host and device of each rank.
        checkpoint: the newest that is written; None for none.
    """
    again = (
        "resume the run: it has no checkpoint yet and begins at its first step"
        if checkpoint is None
        else f"resume the run: it resumes from step {checkpoint:,}, where the ranks were compared"
    )
    names = " and ".join(f"rank {rank} ({places[rank]})" for rank in verdict.ranks)
    unlike = "the ranks no longer hold the same state"
    if not names:
        return DivergedError(
            f"{unlike}, and which of them is wrong cannot be told: {verdict.how}\n{found.message}",
            f"{again}; use other devices, or three ranks, of which one is outvoted",
        )
    if verdict.is_suspicion:
        suspected = f"suspected: {names}, {verdict.how}"
        return DivergedError(f"{unlike}\n{suspected}\n{found.message}", f"{again}; test that device")
    return DivergedError(
        f"{names} holds another state than it should: {verdict.how}\n{found.message}",
        f"{again}; do not use that device before it is tested",
    )


def place_of(device: torch.device) -> str:
    """Return host and device in words."""
    what = f"GPU {device.index}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "CPU"
    return f"host {socket.gethostname()}, {what}"

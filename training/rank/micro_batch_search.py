"""``data.max_micro_batch: auto``: a smaller micro-batch is found where memory runs out. The launcher reads it, too.

A rank whose pass has failed can not repeat it alone: the others wait in the sum of gradients. So the rank that runs out
of memory writes half of what it tried into the run folder, and the attempt ends as after any failure; its ranks are
started again from the last checkpoint, and all of them read the one number. Nothing is asked in a step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...data.common import atomic_replacement

if TYPE_CHECKING:
    from ..config import RunSpec

_FILE = "micro_batch.json"
_KEY = "max_micro_batch"
IN_EVALUATION = "in an evaluation"
"""A note of an exception."""
_EVALUATION_FACTOR = 4
"""Passes of an evaluation have this many times the samples of a rank's share of the batch."""


def found_micro_batch(folder: Path) -> int | None:
    """Return what was found for the run in ``folder``; None where all has fitted so far."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads((folder / _FILE).read_text(encoding="utf-8"))[_KEY])
    return None


class MicroBatchSearch:
    """The search on one rank, for as long as an attempt lasts.

    Args:
        spec: of the run, as it was written.
        folder: of the run.
        world_size: of the ranks.
    """

    def __init__(self, spec: RunSpec, folder: Path, world_size: int) -> None:
        data = spec.config.data
        self._folder = folder
        self._share = -(-min(data.batch_size, spec.facts.epoch_size) // world_size)
        self._searches = data.max_micro_batch == "auto"
        self._limit = found_micro_batch(folder) if self._searches else None
        self.spec = spec if self._limit is None else _with_limit(spec, self._limit)
        """What this attempt goes by."""

    @contextmanager
    def halving(self) -> Iterator[None]:
        """Write down half of what was tried, where memory runs out inside."""
        import torch

        try:
            yield
        except torch.OutOfMemoryError as error:
            evaluating = IN_EVALUATION in getattr(error, "__notes__", ())
            tried = self._share * (_EVALUATION_FACTOR if evaluating else 1)
            self._halve(min(tried, self._limit or tried))
            raise

    def _halve(self, tried: int) -> None:
        """Write half of it down, unless another rank has written less, or one sample does not fit."""
        half = -(-tried // 2)
        if self._searches and half < tried and half < (found_micro_batch(self._folder) or tried):
            mine = self._folder / f".{_FILE}.{os.getpid()}"  # several ranks may write at once
            with suppress(OSError), atomic_replacement(self._folder / _FILE, mine) as temporary:
                temporary.write_text(json.dumps({_KEY: half}), encoding="utf-8")


def _with_limit(spec: RunSpec, limit: int) -> RunSpec:
    data = spec.config.data.model_copy(update={_KEY: limit})
    return replace(spec, config=spec.config.model_copy(update={"data": data}))

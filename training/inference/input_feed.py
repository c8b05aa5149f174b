"""A feed of what a user asks about, in place of the data set that the model was trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ...data.inputs import InputRows
from ...data.loading import Normalisation, StepBatch, Work
from ...data.order import Indices


class InputFeed:
    """Inputs without targets, normalised as the training data was.

    Args:
        rows: the inputs.
        device: where batches are needed.
        normalise: applied on the device.
    """

    pads_by_batch = False

    def __init__(self, rows: InputRows, device: torch.device, normalise: Normalisation) -> None:
        self._rows = rows
        self._normalise = normalise
        self._device = device

    def fetch(self, work: Iterator[Work]) -> Iterator[StepBatch]:
        """Yield batches (inputs, zeros); of samples that are asked for beyond the end, the first ones."""
        for item in work:
            rows = [self._rows.readers[int(index) % len(self._rows)]() for index in item.indices]
            x = self._normalise(torch.from_numpy(np.stack(rows)).to(self._device))
            y = torch.zeros(len(x), dtype=torch.int64, device=self._device)
            micro = zip(x.split(list(item.micro)), y.split(list(item.micro)), strict=True)
            yield StepBatch(list(micro), item.indices, item)

    def pad_length(self, indices: Indices) -> None:
        """Return None: nothing is padded."""

    def expect_classes(self, classes: int, ignored: int | None = None) -> None:
        """Expect nothing of targets that there are not."""

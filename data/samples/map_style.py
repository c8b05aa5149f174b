"""What makes an object a data set that is read sample by sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NO_NUMBERS = (
    ": its samples have no numbers, and it does not say how it is cut, so that each process would train on all of them."
    " Give it __lockstep_shard__(index, count), or return a list of iterables, each with __len__; or write the samples"
    " as Parquet, JSON lines or tar files for data.use=shards"
)
"""Why an object that can only be passed through is refused."""


def lacks_of_map_style(split: Any) -> str:
    """Say what a value lacks to be read sample by sample; nothing where it can be."""
    import torch

    if isinstance(split, type):
        return "is a class: make a data set of it by calling it"
    if isinstance(split, torch.utils.data.DataLoader):
        return (
            "makes batches in an order of its own: return its data set, and set data.batch_size, data.workers"
        )
    if hasattr(split, "iloc"):
        return "is read by the names of its columns: make tensors of them, or name the file with data.use=csv"
    if isinstance(split, Mapping | str | bytes):
        return "is not read by the numbers of samples"
    if hasattr(split, "__len__") and hasattr(split, "__getitem__"):
        return ""
    why = NO_NUMBERS if hasattr(split, "__iter__") and not hasattr(split, "__len__") else ""
    return f"has no __len__ or no __getitem__{why}"

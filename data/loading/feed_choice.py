"""The choice of a feed for a split."""

from __future__ import annotations

import torch

from ..sources import ArraySplit, MapSplit
from .feed import Augment, Feed
from .loader_feed import LoaderFeed
from .mixing import MixedFeed
from .normalise import Normalisation
from .pieces import ManyRowsPieces
from .resident_feed import ResidentFeed


def open_feed(
    split: ArraySplit | MapSplit,
    normalise: Normalisation,
    device: torch.device,
    *,
    workers: int,
    classes: int | None,
    seed: int,
    prefetch: bool = False,
    augment: Augment | None = None,
) -> Feed:
    """Open the feed for a split: resident for arrays, a DataLoader for what is read sample by sample.

    Args:
        split: what was opened.
        normalise: applied on the device.
        device: where batches are needed.
        workers: loader processes for a ``MapSplit``.
        classes: where targets are class indices, each is checked to be below this.
        seed: of what is random about a sample, with the epoch and its index.
        prefetch: gather arrays on a thread while the model trains; worth it where a core is free.
        augment: applied on the device, before ``normalise``.
    """
    feed: Feed
    if isinstance(split, ArraySplit):
        prefetch = prefetch and not (augment is not None and augment.draws_globally)
        feed = ResidentFeed(split, normalise, device, classes=classes, prefetch=prefetch, augment=augment)
    else:
        feed = LoaderFeed(
            split,
            normalise,
            device,
            workers=workers,
            classes=classes,
            seed=seed,
            augment=augment,
            pieces=None
            if split.many is None
            else ManyRowsPieces(split.many, max(1, workers), pin=device.type == "cuda"),
        )
    if augment is None or augment.mixing is None:
        return feed
    return MixedFeed(feed, augment, augment.mixing)

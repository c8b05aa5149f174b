"""Draws the first training samples as a 5 x 5 grid, beside it augmented, in a short-lived child process.

Reads one JSON document on stdin and answers with one on stdout, like ``prepare``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure

from .bad_samples import Skipping, skipping
from .common import LockstepError, UsageError, answer_parent
from .config import DataConfig, DatasetInfo
from .loading import Augmentation, Normalisation, Work, augmentation, open_feed
from .order import EpochOrder
from .sets import open_order, open_split

_SIDE = 5


def draw_sample_grid(config: DataConfig, base: Path, facts: DatasetInfo, seed: int, out: Path) -> Path | None:
    """Write the picture; None where the samples are not images.

    Raises:
        UsageError: the file cannot be written.
    """
    if facts.input_shape is not None and len(facts.input_shape) != 3:  # noqa: PLR2004 - channels, height, width
        return None
    count = min(_SIDE * _SIDE, facts.epoch_size)
    images, labels = _samples(config, base, facts, seed, count)
    changed = augmentation(config.augment, seed, base, facts.classes)
    pictures = [images]
    if changed is not None:
        pictures.append(_samples(config, base, facts, seed, count, changed)[0])
    if not isinstance(images, torch.Tensor) or images.ndim != 4:  # noqa: PLR2004 - samples, channels, height, width
        return None
    figure = Figure(figsize=(7 * len(pictures), 7.6), layout="constrained")
    halves = figure.subfigures(1, len(pictures), squeeze=False)[0]
    for half, shown, title in zip(halves, pictures, ("as stored", "augmented, in epoch 1"), strict=False):
        if len(pictures) > 1:
            half.suptitle(title)
        for place in range(count):
            axes = half.add_subplot(_SIDE, _SIDE, place + 1)
            axes.imshow(**pixels(shown[place]))
            axes.set_title(label_of(facts, labels[place]), fontsize=10)
            axes.set_axis_off()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--out {out}: the picture cannot be written: {error}", "name a .png file in a folder of yours"
        ) from error
    return out


def _samples(
    config: DataConfig,
    base: Path,
    facts: DatasetInfo,
    seed: int,
    count: int,
    augment: Augmentation | None = None,
) -> tuple[Any, Any]:
    """Load the samples as the model gets them, without the normalisation, which would wash out the picture."""
    which: Literal["train"] = "train"
    rule = Skipping(config.max_bad, seed) if config.on_bad == "skip" else None
    split = skipping(open_split(facts, which, config, base), which, rule)
    normalise = Normalisation(torch.float32, None, None)
    cpu = torch.device("cpu")
    feed = open_feed(
        split,
        normalise,
        cpu,
        workers=0,
        classes=facts.classes,
        seed=seed,
        augment=augment,
    )
    indices = EpochOrder(open_order(facts, config, base), seed, 0).indices(0, count)
    pair: tuple[Any, Any] = next(feed.fetch(iter([Work(indices, [count])]))).micro[0]
    return pair


def pixels(image: torch.Tensor) -> dict[str, Any]:
    """Make the arguments of ``imshow``: grey for one channel, colour for three.

    Values from 0 to 1, as those of image files, are drawn as they are, and others over the range that they have.
    """
    values = image.numpy()
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    if values.shape[0] == 1:
        return {"X": values[0], "cmap": "gray", "vmin": low, "vmax": high}
    return {"X": np.moveaxis((values[:3] - low) / max(high - low, 1e-12), 0, -1)}


def label_of(facts: DatasetInfo, target: Any) -> str:
    """Return the name of a target that is a class; nothing for others."""
    if not isinstance(target, torch.Tensor) or target.ndim or target.is_floating_point():
        return ""
    return facts.class_names[int(target)] if facts.class_names else str(int(target))


def main() -> None:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    response: dict[str, Any]
    try:
        path = draw_sample_grid(
            DataConfig.model_validate(request["data"]),
            Path(request["base"]),
            DatasetInfo.from_json(request["facts"]),
            request["seed"],
            Path(request["out"]),
        )
        response = {"picture": None if path is None else str(path)}
    except UsageError as error:
        response = {"error": error.to_json()}
    except LockstepError as error:
        response = {"picture": None, "problem": error.message}
    except Exception as error:  # noqa: BLE001 - it came out of the user's data set
        response = {"picture": None, "problem": f"{type(error).__name__}: {error}"}
    answer_parent(response)


if __name__ == "__main__":
    main()

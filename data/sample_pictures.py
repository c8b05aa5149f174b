"""Makes small pictures of single samples in a short-lived child process.

Reads one JSON document on stdin and answers with one on stdout, like ``prepare``.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .common import LockstepError, answer_parent
from .config import DataConfig, DatasetInfo
from .loading import Normalisation, Work, open_feed
from .sample_grid import label_of, pixels
from .sets import open_split

_IMAGE_AXES = 4
_LARGEST = 96  # pixels of a side


def sample_pictures(
    config: DataConfig, base: Path, facts: DatasetInfo, split: str, indices: list[int], seed: int
) -> tuple[list[str | None], list[str]]:
    """Return for each sample a PNG as a data URI, None where samples are not images, and its label, or nothing."""
    opened = open_split(facts, split, config, base)
    cpu = torch.device("cpu")
    feed = open_feed(
        opened, Normalisation(torch.float32, None, None), cpu, workers=0, classes=facts.classes, seed=seed
    )
    work = Work(np.array(indices, dtype=np.int64), [len(indices)])
    pair: Any = next(feed.fetch(iter([work]))).micro[0]
    if not isinstance(pair, list | tuple) or len(pair) != 2:  # noqa: PLR2004 - input and target
        return [None] * len(indices), [""] * len(indices)
    images, targets = pair
    labels = [label_of(facts, target) for target in targets] if isinstance(targets, torch.Tensor) else []
    drawable = isinstance(images, torch.Tensor) and images.ndim == _IMAGE_AXES and images.shape[1] in (1, 3)
    return [_uri(image) if drawable else None for image in images], labels or [""] * len(indices)


def _uri(image: torch.Tensor) -> str:
    how = pixels(image)
    values = how["X"]
    if values.ndim == 2:  # noqa: PLR2004 - grey
        values = (values - how["vmin"]) / max(how["vmax"] - how["vmin"], 1e-12)
    picture = Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8))
    picture.thumbnail((_LARGEST, _LARGEST))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def main() -> None:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    response: dict[str, Any]
    try:
        pictures, labels = sample_pictures(
            DataConfig.model_validate(request["data"]),
            Path(request["base"]),
            DatasetInfo.from_json(request["facts"]),
            request["split"],
            request["indices"],
            request["seed"],
        )
        response = {"pictures": pictures, "labels": labels}
    except LockstepError as error:
        response = {"problem": error.message}
    except Exception as error:  # noqa: BLE001 - it came out of the user's data set
        response = {"problem": f"{type(error).__name__}: {error}"}
    answer_parent(response)


if __name__ == "__main__":
    main()

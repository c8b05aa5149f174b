"""Pictures that hooks log, as PNG files in the run folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "pictures"
_CHANNELS = (1, 3, 4)


def as_picture(value: Any) -> Any:
    """Return a picture of PIL for what may be shown as one; None for anything else.

    Args:
        value: of PIL, a figure of matplotlib, or an array of uint8, or of numbers from 0 to 1, that is [H, W],
            [H, W, C] or [C, H, W].
    """
    from PIL import Image

    if isinstance(value, Image.Image):
        return value
    if hasattr(value, "savefig") and hasattr(value, "canvas"):
        buffer = io.BytesIO()
        value.savefig(buffer, format="png")
        return Image.open(buffer)
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray) or value.ndim not in (2, 3):
        return None
    if value.ndim == 3 and value.shape[-1] not in _CHANNELS:  # noqa: PLR2004 - channels first
        if value.shape[0] not in _CHANNELS:
            return None
        value = value.transpose(1, 2, 0)
    if value.dtype != np.uint8:
        value = np.clip(np.nan_to_num(value.astype(np.float64)) * 255 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(value[..., 0] if value.ndim == 3 and value.shape[-1] == 1 else value)  # noqa: PLR2004


def save_picture(picture: Any, folder: Path, name: str, step: int) -> Path:
    """Save a picture that was logged under a name after this many steps; return its path, relative to the folder."""
    path = Path(FOLDER, f"{name.replace('/', '.')}-{step:08d}.png")
    (folder / FOLDER).mkdir(exist_ok=True)
    picture.save(folder / path)
    return path

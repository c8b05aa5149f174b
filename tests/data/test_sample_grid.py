"""The picture of ``launch show`` does not change what it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lockstep.data.config.data_config import DataConfig
from lockstep.data.prepare import prepare
from lockstep.data.sample_grid import draw_sample_grid


@pytest.mark.parametrize(("mode", "colour"), [("L", 90), ("RGB", (200, 60, 30))])
def test_an_image_of_one_colour_has_it_in_the_picture(
    tmp_path: Path, mode: str, colour: int | tuple[int, int, int]
) -> None:
    for name in ("a.png", "b.png"):
        Image.new(mode, (8, 8), colour).save(tmp_path / name)
    (tmp_path / "train.csv").write_text("path,label\na.png,0\nb.png,1\n")
    config = DataConfig(use="csv_images", args={"train_csv": "train.csv"})
    out = draw_sample_grid(config, tmp_path, prepare(config, tmp_path), 0, tmp_path / "out.png")
    assert out is not None
    with Image.open(out) as opened:
        pixels = np.asarray(opened.convert("RGB")).reshape(-1, 3)
    expected = (colour,) * 3 if isinstance(colour, int) else colour
    assert (np.abs(pixels.astype(int) - expected).max(1) <= 1).mean() > 0.02


def test_samples_are_shown_before_and_after_they_are_augmented(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8), (200, 60, 30)).save(tmp_path / name)
    (tmp_path / "train.csv").write_text("path,label\na.png,0\nb.png,1\n")
    config = DataConfig.model_validate(
        {
            "use": "csv_images",
            "args": {"train_csv": "train.csv"},
            "augment": [{"use": "erase", "p": 1, "scale": [1, 1], "ratio": [1, 1]}],
        }
    )
    out = draw_sample_grid(config, tmp_path, prepare(config, tmp_path), 0, tmp_path / "out.png")
    assert out is not None
    with Image.open(out) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    left, right = np.array_split(pixels, 2, axis=1)
    for half, shown, hidden in ((left, (200, 60, 30), (0, 0, 0)), (right, (0, 0, 0), (200, 60, 30))):
        assert (np.abs(half - shown).max(2) <= 1).mean() > 0.02
        assert (np.abs(half - hidden).max(2) <= 1).mean() < 0.01

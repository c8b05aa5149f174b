"""The operations of ``data.augment``: torchvision's pixels for the same parameters, and each image by itself."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.data.config.data_config import MIXING, OPERATIONS, AugmentConfig, DataConfig
from lockstep.data.loading import augment_colour, auto_augment
from lockstep.data.loading.augment import Augmentation, augmentation
from lockstep.data.loading.augment_draws import Draws, boxes, column
from lockstep.data.loading.augment_geometry import moved, random_resized_crop

B, SIDE = 9, (13, 17)
STEPS: list[dict[str, Any]] = [
    {"use": "crop", "padding": 3},
    {"use": "flip"},
    {"use": "flip_vertical", "p": 0.3},
    {"use": "random_resized_crop", "scale": [0.2, 0.9]},
    {"use": "rotate", "degrees": 40},
    {"use": "affine", "degrees": 10, "translate": 0.2, "scale": [0.7, 1.3], "shear": 15},
    {"use": "colour", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2},
    {"use": "grey", "p": 0.5},
    {"use": "blur", "sigma": [0.2, 1.5]},
    {"use": "erase"},
    {"use": "rand_augment", "n": 3, "magnitude": 20},
    {"use": "trivial_augment"},
    {"use": "torchvision.transforms.v2:RandomAffine", "args": {"degrees": 30}},
]


def images(count: int = B, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, channels, *SIDE), generator=generator, dtype=torch.uint8)


def steps(*chosen: dict[str, Any], seed: int = 4) -> Augmentation:
    made = augmentation(AugmentConfig.model_validate(chosen), seed, Path())
    assert made is not None
    return made


def test_every_operation_is_tried_here() -> None:
    assert {step["use"] for step in STEPS} >= set(OPERATIONS) - set(MIXING)


@pytest.mark.parametrize("step", [*STEPS, None], ids=lambda step: step["use"] if step else "all")
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_the_same_to_the_bit_in_any_batch(step: dict[str, Any] | None, channels: int) -> None:
    x, indices = images(channels=channels), np.arange(100, 100 + B)
    augment = steps(*([step] if step else STEPS))
    whole = augment(x, 2, indices)
    assert (whole.dtype, whole.shape) == (x.dtype, x.shape)
    seen = channels == 3 or step is None or step["use"] != "grey"
    assert torch.equal(whole, x) != seen
    order = np.random.default_rng(0).permutation(B)
    assert torch.equal(augment(x[order], 2, indices[order]), whole[order])
    for row in range(B):
        assert torch.equal(augment(x[row : row + 1], 2, indices[row : row + 1])[0], whole[row]), row
    assert torch.equal(x, images(channels=channels))
    assert torch.equal(augment(x, 3, indices), whole) != seen
    assert torch.equal(steps(*([step] if step else STEPS), seed=5)(x, 2, indices), whole) != seen


@pytest.mark.parametrize("angle", [-70.0, 20.0])
def test_moves_are_those_of_torchvision(angle: float) -> None:
    x = images().float()
    ones = np.ones(B)
    found = moved(
        x,
        angle=angle * ones,
        right=2 * ones,
        down=-3 * ones,
        scale=1.2 * ones,
        shear_x=10 * ones,
        shear_y=-6 * ones,
    )
    expected = tv.affine(
        x, angle, [2, -3], 1.2, [10.0, -6.0], interpolation=tv.InterpolationMode.BILINEAR, fill=None
    )
    assert torch.allclose(found, expected, atol=0.05)
    turned = tv.rotate(x, -angle, interpolation=tv.InterpolationMode.BILINEAR)
    assert torch.allclose(moved(x, angle=angle * ones), turned, atol=0.05)


def test_random_resized_crops_are_those_of_torchvision() -> None:
    x = images().float()
    draws = Draws(np.arange(B, dtype=np.uint64), 0)
    found, missing = boxes(draws, SIDE, (0.1, 0.9), (0.5, 2.0))
    assert not missing.any()
    made = random_resized_crop(x, draws, {"scale": (0.1, 0.9), "ratio": (0.5, 2.0)})
    for row, (top, left, high, wide) in enumerate(found.T.tolist()):
        expected = tv.resized_crop(x[row], top, left, high, wide, list(SIDE), antialias=True)
        assert torch.allclose(made[row], expected, atol=0.05)


def test_boxes_lie_within_the_image_and_have_the_area_and_ratio_asked_for() -> None:
    draws = Draws(np.arange(4000, dtype=np.uint64), 0)
    (top, left, high, wide), missing = boxes(draws, (200, 300), (0.1, 0.6), (0.5, 2.0))
    assert not missing.any()
    assert (top.min(), left.min()) == (0, 0)
    assert ((top + high <= 200) & (left + wide <= 300)).all()
    share, ratio = high * wide / 60_000, wide / high
    assert 0.095 < share.min() < 0.12
    assert 0.58 < share.max() < 0.605
    assert 0.48 < ratio.min() < 0.6
    assert 1.7 < ratio.max() < 2.05
    impossible, missing = boxes(draws, (10, 200), (0.9, 1.0), (0.9, 1.1))
    assert missing.all()
    assert not impossible.any()


COLOURS: dict[str, tuple[Any, Any]] = {
    "brightness": (augment_colour.brightness, tv.adjust_brightness),
    "contrast": (augment_colour.contrast, tv.adjust_contrast),
    "saturation": (augment_colour.saturation, tv.adjust_saturation),
    "sharpness": (auto_augment.sharpness, tv.adjust_sharpness),
}


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("factor", [0.2, 1.7])
def test_colours_are_those_of_torchvision(name: str, factor: float) -> None:
    ours, theirs = COLOURS[name]
    x = images()
    found = ours(x.float(), column(np.full(B, factor), x))
    unit = torch.stack([theirs(image / 255, factor) for image in x]) * 255
    rounded = torch.stack([theirs(image, factor) for image in x]).float()
    # torchvision cuts bytes off, and does so in between; of a sharpened picture, it rounds what was blurred.
    assert (
        torch.allclose(found, unit, atol=0.02)
        if name != "sharpness"
        else (found - rounded).abs().max() <= 1.01
    )


@pytest.mark.parametrize("turn", [-0.4, 0.1])
def test_hues_are_those_of_torchvision(turn: float) -> None:
    x = images()
    found = augment_colour.hue(x.float(), column(np.full(B, turn), x))
    assert (found - tv.adjust_hue(x, turn).float()).abs().max() <= 1.01


def test_the_rest_of_the_table_is_torchvisions() -> None:
    x = images()
    narrow = (x // 3 + 40).to(torch.uint8)
    assert torch.equal(
        auto_augment.posterize(x.float(), column(np.full(B, 2.0**5), x)), tv.posterize(x, 3).float()
    )
    assert torch.equal(
        auto_augment.solarize(x.float(), column(np.full(B, 99.0), x)), tv.solarize(x, 99).float()
    )
    assert torch.equal(auto_augment.equalize(narrow.float()), tv.equalize(narrow).float())
    assert (auto_augment.autocontrast(narrow.float()) - tv.autocontrast(narrow).float()).abs().max() <= 1.01
    flat = torch.full_like(x, 7).float()
    assert torch.equal(auto_augment.equalize(flat), flat)
    assert torch.equal(auto_augment.autocontrast(flat), flat)


def test_a_blur_is_torchvisions() -> None:
    x = images(1).float()
    (sigma,) = Draws(np.zeros(1, np.uint64), 0).uniform(1, 0.8, 0.9)
    found = augment_colour.blur(x, Draws(np.zeros(1, np.uint64), 0), {"p": 1.0, "sigma": (0.8, 0.9)})
    assert torch.allclose(found, tv.gaussian_blur(x, [7, 7], [float(sigma)]), atol=0.05)


def test_draws_are_independent_over_samples_epochs_and_operations() -> None:
    """Over 20,000 samples a correlation is within 4.5 of its standard deviations of 1 / sqrt(n)."""
    n = 20_000
    augment = steps({"use": "flip"})
    numbers = [augment.random_numbers(epoch, np.arange(n)) for epoch in (0, 1)]
    columns = [
        Draws(number, place).uniform(what) for number in numbers for place in (0, 1) for what in (0, 1)
    ]
    columns += [np.roll(column, 1) for column in columns[:2]]
    assert all(abs(column.mean() - 0.5) < 4.5 * (1 / 12 / n) ** 0.5 for column in columns)
    correlations = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlations).max() < 4.5 / n**0.5
    counts = np.bincount(Draws(numbers[0], 3).one_of(0, 14), minlength=14)
    assert ((counts - n / 14) ** 2 / (n / 14)).sum() < 40  # chi-square of 13 degrees: 1 in 10,000
    flipped = augment(torch.arange(2, dtype=torch.uint8).view(1, 1, 1, 2).expand(n, 1, 1, 2), 0, np.arange(n))
    assert abs(float(flipped[:, 0, 0, 0].float().mean()) - 0.5) < 4.5 * 0.5 / n**0.5


def test_own_transforms_leave_the_generators_as_they_were() -> None:
    torch.manual_seed(1)
    random.seed(1)
    expected = torch.rand(3), random.random()
    torch.manual_seed(1)
    random.seed(1)
    steps(STEPS[-1])(images(), 0, np.arange(B))
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]
    assert steps(STEPS[-1]).draws_globally
    assert not steps(STEPS[0]).draws_globally


def test_an_own_transform_that_fails_is_named() -> None:
    with pytest.raises(TrainingError, match=r"v2:CenterCrop returned|v2:Normalize raised"):
        steps({"use": "torchvision.transforms.v2:Normalize", "args": {"mean": [0.5] * 7, "std": [1.0] * 7}})(
            images(), 0, np.arange(B)
        )
    with pytest.raises(TrainingError, match=r"RandomCrop raised TypeError"):
        steps({"use": "torchvision.transforms.v2:RandomCrop"})(images(), 0, np.arange(B))
    with pytest.raises(UsageError, match="NoSuch"):
        steps({"use": "torchvision.transforms.v2:NoSuch"})(images(), 0, np.arange(B))


def test_floats_are_moved_and_stay_floats() -> None:
    x = images().double() / 7 - 10
    made = steps({"use": "rotate"}, {"use": "erase", "p": 1})(x, 0, np.arange(B))
    assert made.dtype == torch.float64
    assert float(made.min()) < -1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([{"use": "rotat"}], "there is no operation 'rotat'"),
        ([{"use": "rotate", "degree": 3}], "rotate has no setting 'degree'; it has degrees"),
        ([{"use": "rotate", "degrees": 400}], "degrees = 400 is not a number from 0 to 180"),
        (
            [{"use": "random_resized_crop", "scale": [0.5, 0.1]}],
            r"scale = \[0.5, 0.1\] is not \[least, most\]",
        ),
        ([{"use": "rand_augment", "n": 1.5}], "n = 1.5 is not a whole number from 1 to 20"),
        ([{"use": "a.b:C", "size": 3}], "its arguments stand in args"),
    ],
)
def test_wrong_settings_are_named(given: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataConfig.model_validate({"augment": given})


def test_a_list_stands_in_the_place_of_the_section() -> None:
    config = DataConfig.model_validate({"augment": STEPS})
    assert [step.use for step in config.augment.steps] == [step["use"] for step in STEPS]
    for given in (STEPS, {"crop": 0, "steps": STEPS}):  # as the launcher reads a file, and what it prints
        assert DataConfig.model_validate_json(json.dumps({"augment": given}), strict=True) == config
    assert DataConfig.model_validate(config.model_dump(mode="json")) == config
    assert config.augment.steps[3].settings == {"scale": [0.2, 0.9], "ratio": (3 / 4, 4 / 3)}

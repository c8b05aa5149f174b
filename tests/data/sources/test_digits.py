from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from lockstep.data.common.errors import UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.sources import digits


def geometry_hash(seed: int, split: digits.Split, indices: list[int]) -> str:
    plan = digits.sample_geometry(seed, split, np.array(indices, np.int64))
    digest = hashlib.sha256()
    for field in fields(plan):
        digest.update(np.ascontiguousarray(getattr(plan, field.name)).tobytes())
    return digest.hexdigest()


def test_golden_geometry() -> None:
    """The glyphs come from FreeType and change with Pillow; how they are distorted never does."""
    assert (
        geometry_hash(0, "train", [0, 1, 2, 59_999])
        == "0d158541e9d79b10a86b4e15f1ca4799de76d07f995416a237bc001d9cc96366"
    )
    assert (
        geometry_hash(0, "val", [0, 9_999])
        == "2dd6830610496e3e8f538ee951473e2a657774fcf09a26bb46f64b9cb119c760"
    )
    assert (
        geometry_hash(7, "train", [0]) == "58c16b00fb45248366bfdb8054044e5d88fc3586de53ca16adb948e668dc8aa6"
    )


def test_golden_noise_and_labels() -> None:
    indices = np.arange(20, dtype=np.int64)
    assert digits.sample_geometry(0, "train", indices).labels.tolist() == [
        5,
        6,
        2,
        9,
        3,
        0,
        7,
        1,
        4,
        8,
        0,
        7,
        9,
        4,
        1,
        2,
        6,
        8,
        3,
        5,
    ]
    noise = digits._noise(0, "train", indices)
    assert (
        hashlib.sha256(noise.tobytes()).hexdigest()
        == "df8b740888f3097d48d2fec1aa9f17a65eda3821fcf3ad1aca1a87b60157d1de"
    )


def test_golden_source_points() -> None:
    """Only + - * / on float32, so these bytes are the same on every machine."""
    plan = digits.sample_geometry(0, "train", np.arange(50, dtype=np.int64))
    x, y = digits._source_points(plan)
    assert x.dtype == y.dtype == np.float32
    assert (
        hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
        == "5512d30ac879153a0dec30f5762cd82f63820f12ed4feea414a607a4f9ac016e"
    )


def test_a_sample_depends_on_its_index_alone() -> None:
    images, labels = digits.draw_digits(3, "train", np.arange(300, dtype=np.int64))
    shuffled = np.random.default_rng(0).permutation(300)[:40]
    again, labels_again = digits.draw_digits(3, "train", shuffled)
    assert (again == images[shuffled]).all()
    assert (labels_again == labels[shuffled]).all()


def test_labels_are_balanced_and_not_sorted() -> None:
    labels = digits.sample_geometry(0, "train", np.arange(1000, dtype=np.int64)).labels
    assert np.bincount(labels).tolist() == [100] * 10
    assert len({tuple(run) for run in labels.reshape(-1, 10).tolist()}) > 95


def test_splits_and_seeds_share_no_sample() -> None:
    indices = np.arange(200, dtype=np.int64)
    drawn = [digits.draw_digits(seed, split, indices)[0] for seed in (0, 1) for split in ("train", "val")]
    assert len({image.tobytes() for images in drawn for image in images}) == 800


def test_pictures_show_their_digits() -> None:
    """Robust against another rasteriser: class means tell digits apart far better than chance."""
    images, labels = digits.draw_digits(0, "train", np.arange(2000, dtype=np.int64))
    assert images.dtype == np.uint8
    assert images.shape == (2000, 28, 28)
    assert 10 < images.mean() < 100
    assert images.max(axis=(1, 2)).min() > 120
    means = np.array([images[labels == digit].mean(axis=0) for digit in range(10)]).reshape(10, -1)
    means = (means - means.mean(1, keepdims=True)) / means.std(1, keepdims=True)
    tests, truth = digits.draw_digits(0, "val", np.arange(500, dtype=np.int64))
    assert ((tests.reshape(500, -1) @ means.T).argmax(1) == truth).mean() > 0.4


def test_glyphs_lie_inside_a_dark_border() -> None:
    """Points outside the plane are clamped to its border."""
    atlas = digits.atlas()
    assert atlas.shape == (30, 64, 64)
    for edge in (atlas[:, 0], atlas[:, -1], atlas[:, :, 0], atlas[:, :, -1]):
        assert edge.max() == 0
    ink = atlas.reshape(10, 3, -1).sum(2)
    assert (np.diff(ink, axis=1) > 0).all(), "a thicker stroke has more ink"


def prepared(args: dict) -> DatasetInfo:
    return digits.SOURCE.prepare(DataConfig(args=args), Path())


def test_describe_draws_once_and_reuses(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = prepared({"train": 30, "val": 20})
    monkeypatch.setattr(digits, "draw_digits", None)
    assert prepared({"train": 30, "val": 20}) == facts
    assert (facts.train.length, facts.val.length) == (30, 20)
    assert facts.input_shape == (1, 28, 28)
    assert facts.classes == 10
    assert facts.train.class_counts == (3,) * 10


def test_seed_size_and_normalisation_are_part_of_the_fingerprint() -> None:
    args = [{}, {"seed": 1}, {"train": 31}, {"mean": 0.5, "std": [0.5]}]
    prints = {prepared({"train": 30, "val": 20} | more).fingerprint for more in args}
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"sead": 1}, "data.args.sead: digits has no such argument, did you mean 'seed'?"),
        ({"seed": -1}, "data.args.seed: -1 is not a whole number of at least 0"),
        ({"seed": True}, "data.args.seed: True"),
        ({"train": 0}, "data.args.train: 0"),
        ({"mean": [0.1, 0.2]}, "data.args.mean: [0.1, 0.2] is not a number, or a list of 1"),
        ({"mean": "x"}, "data.args.mean: 'x'"),
        ({"mean": float("nan")}, "data.args.mean: nan"),
        ({"std": 0}, "data.args.std: 0.0 is not above 0"),
    ],
)
def test_bad_arguments(args: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        prepared(args)
    assert message in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_status == 2


def accuracy(model: torch.nn.Module, data: list[torch.Tensor]) -> float:
    x, y, val_x, val_y = data
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for batch in torch.randperm(len(x), generator=generator).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.inference_mode():
        return (model(val_x).argmax(1) == val_y).double().mean().item()


@pytest.mark.exhaustive
def test_it_tells_a_linear_model_from_an_mlp() -> None:
    data = []
    for split, length in (("train", 60_000), ("val", 10_000)):
        images, labels = digits.draw_digits(0, split, np.arange(length, dtype=np.int64))
        data += [torch.from_numpy(images).reshape(length, -1).float() / 255, torch.from_numpy(labels)]
    torch.manual_seed(0)
    assert accuracy(torch.nn.Linear(784, 10), data) < 0.93
    mlp = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    assert accuracy(mlp, data) > 0.975

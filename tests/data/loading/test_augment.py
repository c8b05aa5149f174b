"""Crops and mirror images: the same for a sample whoever reads it, and as random as they should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.data.config.data_config import AugmentConfig, DataConfig
from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.data.loading import resident_feed as batches
from lockstep.data.loading.augment import Augmentation, augmentation, check_augment
from lockstep.data.loading.feed import Work
from lockstep.data.loading.feed_choice import open_feed
from lockstep.data.loading.normalise import Normalisation
from lockstep.data.order.sample_order import EpochBatches, EpochOrder, Indices, micro_batch_sizes
from lockstep.data.prepare import prepare
from lockstep.data.sources.splits import ArraySplit, MapSplit

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

CPU = torch.device("cpu")
N, SHAPE = 53, (3, 7, 5)
SUBSET = np.arange(1, 2 * N, 2, dtype=np.int64)  # so that a sample's index is not its row
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (2 * N, *SHAPE), np.uint8))
BOTH = Augmentation(2, flip=True, seed=5)
Split = ArraySplit | MapSplit


class Rows(Dataset[Any]):
    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, row: int) -> Any:
        return PIXELS[row], row


ARRAYS = ArraySplit(PIXELS, torch.arange(2 * N), SUBSET)
SAMPLES = MapSplit(Rows(), SUBSET)


def by_hand(image: torch.Tensor, augment: Augmentation, epoch: int, index: int) -> torch.Tensor:
    """One image, step by step, from the bits of its number."""
    number = int(augment.random_numbers(epoch, np.array([index], np.int64))[0])
    top, left = ((part * (2 * augment.crop + 1)) >> 31 for part in (number >> 33, number >> 2 & 2**31 - 1))
    padded = torch.nn.functional.pad(image, (augment.crop,) * 4)
    image = padded[:, top : top + image.shape[1], left : left + image.shape[2]]
    return image.flip(2) if augment.flip and number & 1 else image


def work(rank: int, world: int, limit: int | None, epoch: int, first: int = 0) -> Iterator[Work]:
    cut, order = EpochBatches(N, 8), EpochOrder(N, 7, epoch)
    for step in range(first, cut.steps):
        start, stop = cut.shard(step, rank, world)
        mine = order.indices(start, stop)
        if mine.size:
            yield Work(mine, micro_batch_sizes(mine.size, limit), epoch, start)


def read(
    split: Split,
    *,
    workers: int = 0,
    world: int = 1,
    limit: int | None = None,
    epoch: int = 1,
    first: int = 0,
    augment: Augmentation = BOTH,
) -> dict[int, torch.Tensor]:
    """What every rank of a world got for each index, as it is stored."""
    feed = open_feed(
        split,
        Normalisation(torch.float32, None, None),
        CPU,
        workers=workers,
        classes=None,
        seed=5,
        augment=augment,
    )
    images: dict[int, torch.Tensor] = {}
    for rank in range(world):
        for batch in feed.fetch(work(rank, world, limit, epoch, first)):
            x = torch.cat([part for part, _ in batch.micro])
            images |= dict(zip(batch.indices.tolist(), x, strict=True))
    return images


def assert_equal(some: dict[int, torch.Tensor], others: dict[int, torch.Tensor]) -> None:
    assert some.keys() == others.keys()
    assert all(torch.equal(some[index], others[index]) for index in some)


@pytest.fixture(scope="module")
def expected() -> dict[int, torch.Tensor]:
    return {i: by_hand(PIXELS[SUBSET[i]], BOTH, 1, i).float() / 255 for i in range(N)}


WAYS: dict[str, Callable[[], dict[int, torch.Tensor]]] = {
    "arrays": lambda: read(ARRAYS),
    "arrays, in micro-batches": lambda: read(ARRAYS, limit=3),
    "arrays, on 3 ranks": lambda: read(ARRAYS, world=3),
    "samples": lambda: read(SAMPLES),
    "samples, 2 workers": lambda: read(SAMPLES, workers=2),
    "samples, 2 workers, on 2 ranks, in micro-batches": lambda: read(SAMPLES, workers=2, world=2, limit=3),
    "samples, on 5 ranks": lambda: read(SAMPLES, world=5),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_sample_looks_the_same_whoever_reads_it(way: str, expected: dict[int, torch.Tensor]) -> None:
    assert_equal(WAYS[way](), expected)


def by_position(self: Augmentation, epoch: int, indices: Indices) -> Any:
    return draw_by_index(self, epoch, np.arange(indices.size))


draw_by_index = Augmentation.random_numbers


@pytest.mark.parametrize("way", WAYS)
def test_a_key_of_the_position_would_be_seen(
    way: str, expected: dict[int, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Augmentation, "random_numbers", by_position)
    with pytest.raises(AssertionError):
        assert_equal(WAYS[way](), expected)


@pytest.mark.parametrize("split", [ARRAYS, SAMPLES], ids=["arrays", "samples"])
@pytest.mark.parametrize("first", [1, 3, 6])
def test_a_sample_looks_the_same_wherever_an_epoch_is_begun(split: Split, first: int) -> None:
    later, whole = read(split, first=first), read(split)
    assert len(later) == N - 8 * first
    assert_equal(later, {index: whole[index] for index in later})


@pytest.mark.parametrize("block", [1, 1000, 2**21])
def test_the_size_of_a_gather_does_not_show(
    block: int, expected: dict[int, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_BLOCK_BYTES", block)
    assert_equal(read(ARRAYS, limit=3), expected)


def test_steps_of_two_epochs_in_one_gather_keep_their_own_keys() -> None:
    feed = open_feed(
        ARRAYS, Normalisation(torch.float32, None, None), CPU, workers=0, classes=None, seed=5, augment=BOTH
    )
    both = [Work(np.arange(4, dtype=np.int64), [4], epoch) for epoch in (0, 1)]
    for batch in feed.fetch(iter(both)):
        for index, image in enumerate(batch.micro[0][0]):
            by_itself = by_hand(PIXELS[SUBSET[index]], BOTH, batch.work.epoch, index)
            assert torch.equal(image, by_itself.float() / 255)


def test_epochs_and_seeds_differ() -> None:
    several = [BOTH.random_numbers(0, np.arange(N)), BOTH.random_numbers(1, np.arange(N))]
    several.append(Augmentation(2, flip=True, seed=6).random_numbers(0, np.arange(N)))
    assert len({int(number) for draws in several for number in draws}) == 3 * N


def test_stored_images_are_never_written_to() -> None:
    before = PIXELS.clone()
    for augment in (BOTH, Augmentation(0, flip=True, seed=5), Augmentation(2, flip=False, seed=5)):
        read(ARRAYS, augment=augment)
        read(SAMPLES, augment=augment)
    assert torch.equal(PIXELS, before)


# --- every place, as often as it should be

MANY = 90_000


def places(augment: Augmentation) -> np.ndarray[Any, Any]:
    """(skipped rows, skipped columns, mirrored) of many samples, read off an image that shows them."""
    height, width = 7, 9
    coordinates = torch.arange(1, 1 + height * width, dtype=torch.int16).view(1, 1, height, width)
    images = augment(coordinates.expand(MANY, -1, -1, -1), 0, np.arange(MANY))
    middle, right = images[:, 0, height // 2, width // 2] - 1, images[:, 0, height // 2, width // 2 + 1] - 1
    top, left = middle // width - height // 2, middle % width - width // 2
    mirrored = right < middle
    return np.stack([top.numpy(), left.numpy(), mirrored.numpy()])


def test_every_offset_comes_and_half_are_mirrored_all_independent_of_each_other() -> None:
    top, left, mirrored = places(BOTH)
    cells = ((top + 2) * 5 + left + 2) * 2 + mirrored
    counts = np.bincount(cells, minlength=50)
    assert counts.size == 50
    mean = MANY / 50
    assert ((counts - mean) ** 2 / mean).sum() < 99  # chi-squared with 49 degrees of freedom: 3e-5


def test_one_without_the_other() -> None:
    top, left, mirrored = places(Augmentation(2, flip=False, seed=5))
    assert {*top} == {*left} == {-2, -1, 0, 1, 2}
    assert not mirrored.any()
    top, left, mirrored = places(Augmentation(0, flip=True, seed=5))
    assert not top.any()
    assert not left.any()
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / MANY**0.5


def test_a_crop_is_that_of_torchvision_at_the_same_place() -> None:
    from torchvision.transforms.functional import crop, pad

    number = BOTH.random_numbers(3, np.array([4]))
    top, left = int(number[0] >> np.uint64(33)) * 5 >> 31, (int(number[0]) >> 2 & 2**31 - 1) * 5 >> 31
    expected = crop(pad(PIXELS[4], [2]), top, left, *SHAPE[1:])
    assert torch.equal(Augmentation(2, flip=False, seed=5)(PIXELS[4:5], 3, np.array([4]))[0], expected)


def test_what_is_padded_was_zero_before_it_was_normalised() -> None:
    white = ArraySplit(torch.full((8, 1, 4, 4), 255, dtype=torch.uint8), torch.arange(8), None)
    mean, std = torch.tensor([0.25]).view(1, 1, 1), torch.tensor([0.5]).view(1, 1, 1)
    feed = open_feed(
        white,
        Normalisation(torch.float32, mean, std),
        CPU,
        workers=0,
        classes=None,
        seed=0,
        augment=Augmentation(3, flip=False, seed=0),
    )
    [batch] = feed.fetch(iter([Work(np.arange(8), [8])]))
    assert set(batch.micro[0][0].unique().tolist()) == {-0.5, 1.5}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_the_type_stays_and_batches_are_contiguous(dtype: torch.dtype) -> None:
    x = torch.ones(6, *SHAPE, dtype=dtype)
    for augment in (BOTH, Augmentation(0, flip=True, seed=5), Augmentation(2, flip=False, seed=5)):
        augmented = augment(x, 0, np.arange(6))
        assert (augmented.dtype, augmented.shape) == (dtype, x.shape)
        assert augmented.is_contiguous()


# --- what cannot be augmented


def test_nothing_asked_is_nothing_done() -> None:
    assert augmentation(AugmentConfig(), 0, Path()) is None
    assert augmentation(DataConfig().augment, 0, Path()) is None
    assert augmentation(AugmentConfig(crop=1), 3, Path()) == Augmentation(1, flip=False, seed=3)


def facts(shape: tuple[int, ...] | None) -> DatasetInfo:
    return DatasetInfo("own", "user", SplitInfo(9, {}), None, shape, None, None, None, None, None, None)


@pytest.mark.parametrize(
    ("shape", "config", "message"),
    [
        ((7,), {"flip": True}, r"the inputs of own are of shape \[7\]"),
        (None, {"crop": 2}, "of a shape that is not known"),
        ((28, 28), {"crop": 2}, r"of shape \[28, 28\]"),
        ((32, 32, 3), {"flip": True}, "the channels seem to be last"),
        ((3, 4, 9), {"crop": 4}, "4 pixels of padding for images of 4 x 9 pixels"),
    ],
)
def test_what_is_no_image_is_refused(
    shape: tuple[int, ...] | None, config: dict[str, Any], message: str
) -> None:
    check_augment(AugmentConfig(), facts(shape), Path())
    with pytest.raises(UsageError, match=message):
        check_augment(AugmentConfig(**config), facts(shape), Path())


def test_it_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the inputs of tensors are of shape"):
        prepare(DataConfig(use="tensors", augment=AugmentConfig(flip=True)), tmp_path)
    assert prepare(DataConfig(augment=AugmentConfig(crop=4)), tmp_path).input_shape == (1, 28, 28)
    with pytest.raises(UsageError, match="28 pixels of padding"):
        prepare(DataConfig(augment=AugmentConfig(crop=28)), tmp_path)


@pytest.mark.parametrize("x", [torch.ones(4, 7), {"image": torch.ones(4, 3, 7, 5)}, torch.ones(4, 3, 2, 5)])
def test_a_batch_that_is_no_batch_of_images_is_named(x: Any) -> None:
    with pytest.raises(TrainingError, match=r"data\.augment: a batch of inputs is .*not images"):
        BOTH(x, 0, np.arange(4))

"""MixUp and CutMix: by hand, equal to the bit however a batch is read and cut, and by their distributions."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from lockstep.data.common.errors import DamagedError, TrainingError, UsageError
from lockstep.data.config.data_config import AugmentConfig
from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.data.loading.augment import augmentation, check_augment
from lockstep.data.loading.augment_draws import Draws
from lockstep.data.loading.feed import Feed, Work
from lockstep.data.loading.feed_choice import open_feed
from lockstep.data.loading.mixing import Mixing, beta
from lockstep.data.loading.normalise import Normalisation
from lockstep.data.sources.splits import ArraySplit, MapSplit

N, CLASSES = 30, 3
CPU = torch.device("cpu")
PLAIN = Normalisation(torch.float64, None, None)
X = torch.randint(0, 256, (N, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % CLASSES
MIXES = {
    "mixup": [{"use": "mixup", "alpha": 0.4}],
    "cutmix": [{"use": "cutmix"}],
    "both": [{"use": "flip"}, {"use": "mixup", "p": 0.5}, {"use": "cutmix", "p": 0.7}],
}


class Rows(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        return X[row], Y[row]


def feed(steps: list[dict], workers: int | None = None, seed: int = 3) -> Feed:
    return opened(ArraySplit(X, Y, None) if workers is None else MapSplit(Rows(), None), steps, workers, seed)


def opened(
    split: ArraySplit | MapSplit, steps: list[dict], workers: int | None = None, seed: int = 3
) -> Feed:
    changed = augmentation(AugmentConfig(steps=steps), seed, Path(), CLASSES)
    return open_feed(split, PLAIN, CPU, workers=workers or 0, classes=CLASSES, seed=seed, augment=changed)


def works(batch: np.ndarray, cuts: list[int], micro: int, keys: np.ndarray | None = None) -> list[Work]:
    """What ranks that begin at ``cuts`` do with a batch."""
    found = []
    for begin, end in pairwise([0, *cuts, len(batch)]):
        sizes = [min(micro, end - at) for at in range(begin, end, micro)]
        key = batch if keys is None else keys
        own = None if keys is None else keys[begin:end]
        found.append(
            Work(batch[begin:end], sizes, 1, before=(int(batch[begin - 1]), int(key[begin - 1])), keys=own)
        )
    return found


def mixed(source: Feed, work: list[Work]) -> tuple[torch.Tensor, torch.Tensor]:
    fetched = list(source.fetch(iter(work)))
    assert [batch.indices.tolist() for batch in fetched] == [item.indices.tolist() for item in work]
    assert all(
        len(x) == size
        for batch in fetched
        for (x, _), size in zip(batch.micro, batch.work.micro, strict=True)
    )
    pairs = [pair for batch in fetched for pair in batch.micro]
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("steps", MIXES.values(), ids=MIXES)
def test_a_batch_is_the_same_to_the_bit_however_it_is_cut_and_read(steps: list[dict]) -> None:
    batch = np.random.default_rng(1).permutation(N)[:17]
    x, y = mixed(feed(steps), works(batch, [], 17))
    for cuts, micro, workers in (
        ([9], 17, None),
        ([6, 12], 4, None),
        ([1, 2, 16], 3, 0),
        ([8], 5, 1),
        ([5], 6, 3),
    ):
        other_x, other_y = mixed(feed(steps, workers), works(batch, cuts, micro))
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
    assert not torch.equal(x, mixed(feed(steps, seed=4), works(batch, [], 17))[0])


def test_a_sample_that_comes_twice_is_mixed_in_two_ways() -> None:
    batch = np.array([4, 7, 4, 7])
    x, _ = mixed(feed(MIXES["mixup"]), works(batch, [], 4, keys=np.array([100, 101, 102, 103])))
    assert not torch.equal(x[1], x[3])
    parts = mixed(feed(MIXES["mixup"], 0), works(batch, [1, 3], 4, keys=np.array([100, 101, 102, 103])))[0]
    assert torch.equal(x, parts)


def test_mixup_is_a_share_of_the_sample_before() -> None:
    batch = np.random.default_rng(1).permutation(N)
    x, y = mixed(feed(MIXES["mixup"]), works(batch, [], N))
    numbers = augmentation(AugmentConfig(steps=MIXES["mixup"]), 3, Path(), CLASSES).random_numbers(1, batch)
    share = torch.from_numpy(beta(Draws(numbers, 2**20).within(0).within(1), 0.4)).view(-1, 1, 1, 1)
    images, partners = (PLAIN(X[torch.from_numpy(rows)]) for rows in (batch, np.roll(batch, 1)))
    assert torch.equal(x, share * images + (1 - share) * partners)
    one_hot = torch.nn.functional.one_hot(Y, CLASSES).double()
    share = share.view(-1, 1)
    assert torch.equal(y, share * one_hot[batch] + (1 - share) * one_hot[np.roll(batch, 1)])


def test_cutmix_fills_a_box_and_shares_the_target_by_its_area() -> None:
    batch = np.random.default_rng(1).permutation(N)
    x, y = mixed(feed(MIXES["cutmix"]), works(batch, [], N))
    filled = 0
    for place, (row, other) in enumerate(zip(batch, np.roll(batch, 1), strict=True)):
        own, partner = (PLAIN(X[index]) for index in (row, other))
        box = (x[place] != own).any(0)
        rows, columns = box.any(1).nonzero(), box.any(0).nonzero()
        if not len(rows):
            assert torch.equal(x[place], own)
            continue
        cut = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        assert torch.equal(x[place][:, cut[0], cut[1]], partner[:, cut[0], cut[1]])
        area = (cut[0].stop - cut[0].start) * (cut[1].stop - cut[1].start) / 30
        wanted = torch.zeros(CLASSES, dtype=torch.float64)
        wanted[Y[row]] += 1 - area
        wanted[Y[other]] += area
        assert torch.allclose(y[place], wanted, rtol=0, atol=1e-15)
        filled += 1
    assert filled > N / 3


def test_of_several_steps_the_first_that_chooses_an_image_changes_it() -> None:
    steps = AugmentConfig(steps=[{"use": "mixup", "p": 0.3, "alpha": 8}, {"use": "cutmix", "p": 0.5}]).steps
    draws = Draws(np.arange(4000, dtype=np.uint64) * np.uint64(2**40), 9)
    share, boxes = Mixing(steps, CLASSES)._drawn(draws, (32, 32))
    assert boxes is not None
    cut = (boxes[2] > boxes[0]) & (boxes[3] > boxes[1])
    assert not (cut & (share < 1)).any()
    assert abs((share < 1).mean() - 0.3) < 0.03
    assert abs(cut.mean() - 0.35) < 0.04


@pytest.mark.parametrize("alpha", [0.05, 0.4, 1.0, 3.0])
def test_shares_are_those_of_a_beta_distribution(alpha: float) -> None:
    """The first four central moments; the draws of one alpha are 20,000."""
    shares = beta(Draws(np.arange(20_000, dtype=np.uint64), 7), alpha)
    assert ((shares >= 0) & (shares <= 1)).all()
    reference = np.random.default_rng(0).beta(alpha, alpha, 20_000)
    edges = np.quantile(reference, np.linspace(0, 1, 11)[1:-1])
    counts, expected = (
        np.bincount(np.searchsorted(edges, sample), minlength=10) for sample in (shares, reference)
    )
    assert (
        (counts - expected) ** 2 / (counts + expected)
    ).sum() < 27.9  # of nine degrees of freedom, 1 in 1,000


def test_targets_that_are_fractions_are_mixed_as_they_are() -> None:
    steps = AugmentConfig(steps=MIXES["mixup"]).steps
    x, y = torch.zeros(5, 1, 2, 2), torch.tensor([0.0, 10, 20, 30, 40])
    _, mixed_y = Mixing(steps, None).apply(x, y, np.arange(4, dtype=np.uint64))
    assert ((mixed_y >= y[:-1]) & (mixed_y <= y[1:])).all()
    assert mixed_y.shape == (4,)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.zeros(5, 7), torch.zeros(5), "pairs of images and targets"),
        (torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.zeros(5), "the inputs are uint8"),
        (torch.zeros(5, 1, 2, 2), torch.zeros(5, dtype=torch.int64), "how many classes"),
    ],
)
def test_what_cannot_be_mixed_is_refused(x: torch.Tensor, y: torch.Tensor, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        Mixing(AugmentConfig(steps=MIXES["mixup"]).steps, None).apply(x, y, np.arange(4, dtype=np.uint64))


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"use": "mixup"}, {"use": "flip"}], "behind the other steps"),
        ([{"use": "cutmix", "alpha": 0}], "alpha"),
    ],
)
def test_settings_that_are_wrong(steps: list[dict], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AugmentConfig(steps=steps)


def read_all(split: ArraySplit | MapSplit, workers: int | None) -> None:
    mixed = opened(split, MIXES["mixup"], workers)
    mixed.expect_classes(CLASSES, -100)
    list(mixed.fetch(iter(works(np.arange(N), [], N))))


@pytest.mark.parametrize("workers", [None, 0])
@pytest.mark.parametrize("label", [-100, CLASSES])
def test_a_label_that_is_no_class_is_not_mixed(workers: int | None, label: int) -> None:
    """Its probabilities would all be 0, and the loss would be less without a word."""
    labels = Y.clone()
    labels[7] = label
    split = (
        ArraySplit(X, labels, None) if workers is None else MapSplit(list(zip(X, labels, strict=True)), None)
    )
    with pytest.raises(DamagedError, match=f"has the label {label}; with {CLASSES} classes"):
        read_all(split, workers)


@pytest.mark.parametrize(
    ("facts", "classes", "words"),
    [
        ({"kind": "shards"}, 0, "not of shards"),
        ({"classes": CLASSES}, CLASSES - 1, "classes: 2, but own has 3"),
        ({"input_dtype": "uint8", "scale_uint8": False}, 0, "no part"),
    ],
)
def test_data_that_cannot_be_mixed_is_refused_before_anything_starts(
    facts: dict, classes: int, words: str
) -> None:
    config = AugmentConfig(steps=[{"use": "cutmix", "classes": classes}])
    own = DatasetInfo(
        "own", "user", SplitInfo(9, {}), None, (3, 6, 5), "float32", None, None, None, None, None
    )
    check_augment(config, replace(own, classes=2), Path())
    with pytest.raises(UsageError, match=words):
        check_augment(config, replace(own, **facts), Path())

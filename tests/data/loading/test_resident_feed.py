from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from lockstep.data.common.errors import DamagedError, TrainingError
from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.data.loading import resident_feed as batches
from lockstep.data.loading.feed import Feed, StepBatch, Work
from lockstep.data.loading.feed_choice import open_feed
from lockstep.data.loading.loader_feed import LoaderFeed
from lockstep.data.loading.normalise import Normalisation, build_normalisation
from lockstep.data.loading.resident_feed import ResidentFeed
from lockstep.data.order.sample_order import EpochBatches, EpochOrder, Indices, micro_batch_sizes
from lockstep.data.sources.splits import ArraySplit, MapSplit

# torch says so where a machine has one core; that is no reason for a test to fail
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

CPU = torch.device("cpu")
PLAIN = Normalisation(torch.float32, None, None)
N, CLASSES = 41, 5
Rank = tuple[int, int]
"""(rank, world size)."""


def arrays(n: int = N, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = np.random.default_rng(n).integers(0, 256, (n, channels, 4, 3), np.uint8)
    return torch.from_numpy(pixels), torch.arange(n) % CLASSES


class Rows(Dataset[Any]):
    """The same arrays, sample by sample."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> Any:
        return self.x[row], int(self.y[row])


def work(
    n: int, g: int, rank: Rank = (0, 1), *, limit: int | None = None, epoch: int = 0, first: int = 0
) -> Iterator[Work]:
    """What a rank does in an epoch, stand-ins included."""
    cut, order = EpochBatches(n, g), EpochOrder(n, 7, epoch)
    for step in range(first, cut.steps):
        start, stop = cut.shard(step, *rank)
        mine = order.indices(start, stop)
        if mine.size:
            yield Work(mine, micro_batch_sizes(mine.size, limit), epoch, start)
        else:
            whole = order.indices(*cut.span(step))
            yield Work(whole[:1], [1], epoch, start, stand_in=True)


def loader(dataset: Any, workers: int, subset: Indices | None = None, **options: Any) -> LoaderFeed:
    settings = {"classes": CLASSES, "seed": 3, **options}
    return LoaderFeed(MapSplit(dataset, subset), PLAIN, CPU, workers=workers, **settings)


def resident(
    x: torch.Tensor, y: torch.Tensor, subset: Indices | None = None, *, prefetch: bool = False
) -> ResidentFeed:
    return ResidentFeed(ArraySplit(x, y, subset), PLAIN, CPU, classes=CLASSES, prefetch=prefetch)


def assert_same(some: Sequence[StepBatch], others: Sequence[StepBatch]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert np.array_equal(one.indices, other.indices)
        assert one.work.stand_in == other.work.stand_in
        for (x, y), (other_x, other_y) in zip(one.micro, other.micro, strict=True):
            assert x.dtype == other_x.dtype
            assert torch.equal(x, other_x)
            assert torch.equal(y, other_y)


# --- two feeds, the same batches

SUBSET = np.arange(0, N, 2, dtype=np.int64)
CASES = [
    pytest.param(8, (0, 1), None, None, id="one rank"),
    pytest.param(8, (1, 3), None, None, id="a shard"),
    pytest.param(10, (0, 1), 3, None, id="micro-batches"),
    pytest.param(8, (0, 2), 3, SUBSET, id="a subset, in micro-batches"),
    pytest.param(2, (1, 3), None, None, id="steps without a sample of its own"),
    pytest.param(64, (0, 1), None, SUBSET, id="one short batch"),
]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("g", "rank", "limit", "subset"), CASES)
def test_arrays_and_samples_one_by_one_give_the_same_batches(
    g: int, rank: Rank, limit: int | None, subset: Indices | None, workers: int
) -> None:
    x, y = arrays()
    n = N if subset is None else len(subset)
    own = list(resident(x, y, subset).fetch(work(n, g, rank, limit=limit)))
    read = list(loader(Rows(x, y), workers, subset).fetch(work(n, g, rank, limit=limit)))
    assert_same(own, read)


@pytest.mark.parametrize(("g", "rank", "limit", "subset"), CASES)
def test_a_batch_holds_the_rows_that_were_asked_for(
    g: int, rank: Rank, limit: int | None, subset: Indices | None
) -> None:
    x, y = arrays()
    n = N if subset is None else len(subset)
    asked = list(work(n, g, rank, limit=limit))
    got = list(resident(x, y, subset).fetch(iter(asked)))
    assert len(got) == len(asked)
    for item, batch in zip(asked, got, strict=True):
        rows = item.indices if subset is None else subset[item.indices]
        assert batch.work is item
        assert np.array_equal(batch.indices, item.indices)
        assert [len(part) for part, _ in batch.micro] == list(item.micro)
        assert torch.equal(torch.cat([part for part, _ in batch.micro]), x[rows].float() / 255)
        assert torch.equal(torch.cat([part for _, part in batch.micro]), y[rows])


def test_stand_ins_are_among_the_cases() -> None:
    assert any(item.stand_in for item in work(N, 2, (1, 3)))


@pytest.mark.parametrize("block", [1, 100, 1000, 2**21])
def test_the_size_of_a_gather_does_not_show_in_the_batches(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = arrays()
    expected = list(loader(Rows(x, y), 0).fetch(work(N, 6, limit=4)))
    monkeypatch.setattr(batches, "_BLOCK_BYTES", block)
    for prefetch in (False, True):
        assert_same(list(resident(x, y, prefetch=prefetch).fetch(work(N, 6, limit=4))), expected)


def test_one_gather_serves_several_steps_up_to_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = arrays()
    width = 4 * x[0].numel()
    for steps in (1, 2, 100):
        monkeypatch.setattr(batches, "_BLOCK_BYTES", width * 6 * steps)
        fetched = list(resident(x, y).fetch(work(N, 6)))
        gathers = {batch.micro[0][0].untyped_storage().data_ptr() for batch in fetched}
        assert len(gathers) == -(-len(fetched) // steps)


def test_no_work_is_no_batch() -> None:
    x, y = arrays()
    assert list(resident(x, y).fetch(iter(()))) == []
    assert list(loader(Rows(x, y), 0).fetch(iter(()))) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_feed_that_was_left_in_the_middle_starts_afresh(workers: int) -> None:
    x, y = arrays()
    for feed in (resident(x, y), loader(Rows(x, y), workers)):
        left = feed.fetch(work(N, 4))
        assert next(left).indices.size == 4
        left.close()  # type: ignore[attr-defined]  # a generator, typed as an iterator
        expected = list(resident(x, y).fetch(work(N, 4, epoch=1)))
        assert_same(list(feed.fetch(work(N, 4, epoch=1))), expected)


def test_workers_are_forked_when_a_feed_is_opened_and_never_later() -> None:
    x, y = arrays()
    before = set(multiprocessing.active_children())
    feed = loader(Rows(x, y), 2)
    born = set(multiprocessing.active_children()) - before
    assert len(born) == 2
    for epoch in range(2):
        assert_same(
            list(feed.fetch(work(N, 6, epoch=epoch))), list(resident(x, y).fetch(work(N, 6, epoch=epoch)))
        )
    assert set(multiprocessing.active_children()) - before == born


def test_arrays_are_resident_and_others_are_loaded() -> None:
    x, y = arrays()

    def opened(split: ArraySplit | MapSplit) -> Feed:
        return open_feed(split, PLAIN, CPU, workers=0, classes=None, seed=0)

    assert isinstance(opened(ArraySplit(x, y, None)), ResidentFeed)
    assert isinstance(opened(MapSplit(Rows(x, y), None)), LoaderFeed)


# --- normalisation


def facts(mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> DatasetInfo:
    return DatasetInfo(
        name="test",
        kind="arrays",
        train=SplitInfo(N, {}),
        val=None,
        input_shape=(len(mean or (0,)), 4, 3),
        input_dtype="uint8",
        classes=CLASSES,
        class_names=None,
        target_shape=(),
        mean=mean,
        std=std,
    )


@pytest.mark.parametrize(
    ("mean", "std"), [((0.1307,), (0.3081,)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
)
def test_images_are_normalised_as_torchvision_does(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    from torchvision.transforms import Compose, Normalize, ToTensor

    x, y = arrays(channels=len(mean))
    reference = Compose([ToTensor(), Normalize(mean, std)])
    expected = torch.stack([reference(image.permute(1, 2, 0).numpy()) for image in x])
    feed = ResidentFeed(
        ArraySplit(x, y, None), build_normalisation(facts(mean, std), torch.float32, CPU), CPU, classes=None
    )
    [batch] = feed.fetch(iter([Work(np.arange(N), [N])]))
    assert torch.equal(batch.micro[0][0], expected)


def test_images_without_a_mean_are_scaled_as_by_to_tensor() -> None:
    from torchvision.transforms import ToTensor

    image = arrays()[0][0]
    expected = ToTensor()(image.permute(1, 2, 0).numpy())
    assert torch.equal(build_normalisation(facts(None, None), torch.float32, CPU)(image[None])[0], expected)


def test_stored_data_is_never_written_to() -> None:
    x, y = torch.rand(N, 3), torch.arange(N) % CLASSES
    before = x.clone()
    for feed in (resident(x, y), loader(Rows(x, y), 0)):
        for batch in feed.fetch(work(N, 8)):
            batch.micro[0][0].add_(1)
    assert torch.equal(x, before)


def test_floats_take_the_models_type_and_integers_keep_their_own() -> None:
    double = Normalisation(torch.float64, None, None)
    assert double(torch.ones(2, dtype=torch.uint8)).tolist() == [1 / 255] * 2
    assert double(torch.ones(2)).dtype == torch.float64
    assert PLAIN(torch.ones(2, dtype=torch.float64)).dtype == torch.float32
    assert PLAIN(torch.ones(2, dtype=torch.int64)).dtype == torch.int64


# --- randomness of a user's data set


class Augmented(Dataset[Any]):
    """Draws from every global generator that user code draws from."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> Any:
        drawn = [torch.rand(()).item(), np.random.rand(), random.random()]  # noqa: NPY002
        return torch.tensor([row, *drawn], dtype=torch.float64), row % CLASSES


def drawn(
    workers: int, *, rank: Rank = (0, 1), epoch: int = 0, first: int = 0, seed: int = 3
) -> dict[int, tuple[float, ...]]:
    """What each sample of the rank drew."""
    feed = LoaderFeed(
        MapSplit(Augmented(), None),
        Normalisation(torch.float64, None, None),
        CPU,
        workers=workers,
        classes=None,
        seed=seed,
    )
    read = feed.fetch(work(N, 6, rank, limit=4, epoch=epoch, first=first))
    return {int(row): tuple(values) for b in read for x, _ in b.micro for row, *values in x.tolist()}


@pytest.mark.parametrize("workers", [1, 2])
def test_augmentation_does_not_depend_on_workers(workers: int) -> None:
    assert drawn(workers) == drawn(0)


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_does_not_depend_on_where_an_epoch_is_begun(workers: int) -> None:
    later, all_of_it = drawn(workers, first=3), drawn(0)
    assert len(later) == N - 3 * 6
    assert later.items() <= all_of_it.items()


def test_augmentation_does_not_depend_on_the_number_of_ranks() -> None:
    for world_size in (2, 3):
        together: dict[int, tuple[float, ...]] = {}
        for rank in range(world_size):
            together |= drawn(0, rank=(rank, world_size))
        assert together == drawn(0)


def test_every_draw_is_its_own_over_samples_generators_epochs_and_seeds() -> None:
    draws = [drawn(0), drawn(0, epoch=1), drawn(0, seed=4)]
    values = [value for one in draws for row in one.values() for value in row]
    assert len(set(values)) == len(values) == 3 * 3 * N


def test_workers_leave_the_generators_of_the_model_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    drawn(2)
    assert torch.equal(torch.get_rng_state(), before)


# --- what is wrong with the data


@pytest.mark.parametrize("label", [CLASSES, -1])
def test_a_label_out_of_range_in_an_array_names_its_row(label: int) -> None:
    x, y = arrays()
    y[17] = label
    with pytest.raises(DamagedError, match=f"row 17 has the label {label}; with {CLASSES} classes"):
        resident(x, y)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("label", [CLASSES, -1])
def test_a_label_out_of_range_that_is_read_names_its_sample(label: int, workers: int) -> None:
    x, y = arrays()
    y[17] = label
    with pytest.raises(DamagedError, match=f"sample 17 has the label {label}; with {CLASSES} classes"):
        list(loader(Rows(x, y), workers).fetch(work(N, 6, limit=4)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_a_label_that_the_loss_leaves_out_is_in_range(dtype: torch.dtype) -> None:
    x, y = arrays()
    y[17] = -100
    held = ResidentFeed(ArraySplit(x, y.to(dtype), None), PLAIN, CPU, classes=None)
    for feed in (held, loader(Rows(x, y), 0, classes=None)):
        feed.expect_classes(CLASSES, -100)
        list(feed.fetch(work(N, 6)))
    with pytest.raises(DamagedError, match="row 17 has the label -100"):
        held.expect_classes(CLASSES)


def test_labels_that_are_no_classes_are_not_checked() -> None:
    x, _ = arrays()
    ResidentFeed(ArraySplit(x, torch.full((N,), 99), None), PLAIN, CPU, classes=None)
    ResidentFeed(ArraySplit(x, torch.full((N,), 99.0), None), PLAIN, CPU, classes=CLASSES)


class Triples(Rows):
    def __getitem__(self, row: int) -> Any:
        return self.x[row], int(self.y[row]), row


def test_a_sample_that_is_no_pair_is_refused() -> None:
    with pytest.raises(TrainingError, match="not a pair"):
        list(loader(Triples(*arrays()), 0).fetch(work(N, 6)))


class Broken(Rows):
    def __getitem__(self, row: int) -> Any:
        if row == 17:
            raise LookupError("no such file")
        return super().__getitem__(row)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_users_data_set_raises_arrives(workers: int) -> None:
    with pytest.raises(
        TrainingError, match="sample 17 of the data set raised LookupError: no such file\nat "
    ):
        list(loader(Broken(*arrays()), workers).fetch(work(N, 6)))

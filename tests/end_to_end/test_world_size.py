"""The thesis: the number of processes changes neither the batches, nor the weights, nor the evaluation."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import Launch
from tests.helpers.run_records import check_equal_training

WORLDS = (1, 2, 3, 4)
SEED = 3
VARIANTS: dict[str, list[str]] = {
    "float64": [],
    "float64, accumulation": ["data.max_micro_batch=3"],
    "float64, Adam, cosine": ["optimizer.use=adam", "optimizer.lr=0.01", "schedule.use=cosine"],
    "float64, a batch smaller than the world": ["data.batch_size=3", "data.args.n=101", "data.args.m=2"],
    "float64, (sum, weight) loss": ["loss.use=./own.py:weighted"],
    "float64, (sum, weight) loss, accumulation": ["loss.use=./own.py:weighted", "data.max_micro_batch=4"],
    "float64, read sample by sample": ["data.use=./own.py:dataset", "data.workers=0"],
    "float64, crops and mirror images": [
        "data={use: ./own.py:pictures, augment: {crop: 2, flip: true}}",
        "model.use=./own.py:seeing",
    ],
    "float32": ["train.precision=fp32"],
    "float32, accumulation": ["train.precision=fp32", "data.max_micro_batch=3"],
}
MORE = '''
def weighted(output, target):
    losses = nn.functional.cross_entropy(output, target, reduction="none")
    weights = 1.0 + target.to(losses.dtype)
    return (losses * weights).sum(), weights.sum()

class Noisy(torch.utils.data.Dataset):
    """A random augmentation; its key is the sample and the epoch, whoever draws it."""
    def __init__(self, pair):
        self.x, self.y = pair
    def __len__(self):
        return len(self.x)
    def __getitem__(self, index):
        return self.x[index] + 0.1 * torch.randn(self.x.shape[1], dtype=self.x.dtype), self.y[index]

def dataset():
    splits = data(n=503, m=101)
    return {"train": Noisy(splits["train"]), "val": splits["val"]}

def pictures():
    splits = data(n=503, m=101, width=36)
    return {name: (x.view(-1, 1, 6, 6), y) for name, (x, y) in splits.items()}

def seeing():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 11), nn.Tanh(), nn.Linear(11, 2))
'''


def _train(launch: Launch, own: Path, world: int, settings: list[str]) -> dict[str, Any]:
    result = launch("train", "own.yaml", *settings, "--cpu", str(world), "--json", cwd=own)
    assert result.status == 0, result.err
    return result.document


def _compare(launch: Launch, own: Path, variant: str, worlds: tuple[int, ...]) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + MORE)
    settings = VARIANTS[variant]
    one = _train(launch, own, 1, settings)
    assert one["metrics"]["val/count"] in (211, 2, 101)
    for world in worlds:
        check_equal_training(
            one, _train(launch, own, world, settings), 1e-5 if "float32" in variant else 1e-12
        )


SAMPLE = random.Random(SEED).sample(list(VARIANTS), 1)


@pytest.mark.parametrize("variant", SAMPLE)
def test_one_process_equals_two_or_three(launch: Launch, own: Path, variant: str) -> None:
    worlds = WORLDS[1:]
    _compare(launch, own, variant, (worlds[list(VARIANTS).index(variant) % len(worlds)],))


@pytest.mark.exhaustive
@pytest.mark.parametrize("variant", VARIANTS)
def test_one_process_equals_any_number(launch: Launch, own: Path, variant: str) -> None:
    _compare(launch, own, variant, WORLDS[1:])

"""Batches that are dicts with a plain loss: the model is called by name, as the models of transformers want it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.data.common.errors import DamagedError, TrainingError, UsageError
from lockstep.data.order.sample_order import EpochOrder
from lockstep.launcher.config.resolution import resolve
from lockstep.training.session.build import build_training
from tests.helpers.launch import Launch
from tests.helpers.run_records import check_equal_training, final_weights
from tests.helpers.sessions import open_session

CODE = """
from types import SimpleNamespace

class Rows(torch.utils.data.Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.ids, self.mask = torch.randint(0, 9, (n, 5), generator=g), torch.rand(n, 5, generator=g)
    def __len__(self): return len(self.ids)
    def __getitem__(self, row):
        return {"labels": int(self.ids[row].sum()) % 3, "input_ids": self.ids[row], "attention_mask": self.mask[row]}

def rows(n=53, m=17):
    return {"train": Rows(n, 0), "val": Rows(m, 1)}

class Tiny(nn.Module):
    def __init__(self, own_loss=False):
        super().__init__()
        self.embed, self.head, self.own_loss = nn.Embedding(9, 6), nn.Linear(6, 3), own_loss
    def forward(self, attention_mask=None, input_ids=None, labels=None):
        out = self.head((self.embed(input_ids) * attention_mask[..., None]).sum(1))
        loss = out.logsumexp(1).mean() if self.own_loss else None
        return SimpleNamespace(loss=loss, logits=out)
"""
CONFIG = """
data: {use: "./own.py:rows", batch_size: 5, workers: 0, target: labels}
model: {use: "./own.py:Tiny"}
optimizer: {use: sgd, lr: 0.1, momentum: 0.9}
train: {epochs: 2, precision: fp64}
"""


@pytest.fixture
def project(own: Path) -> Path:
    (own / "own.py").write_text((own / "own.py").read_text() + CODE)
    (own / "dict.yaml").write_text(CONFIG)
    return own


def _by_hand(project: Path) -> dict[str, torch.Tensor]:
    session = open_session(project / "dict.yaml", [])
    model, data = session.model, session.train_feed._dataset._dataset
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(2):
        order = EpochOrder(53, 0, epoch)
        for start in range(0, 53, 5):
            rows = torch.from_numpy(order.indices(start, min(53, start + 5)))
            out = model(input_ids=data.ids[rows], attention_mask=data.mask[rows].double()).logits
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(out, data.ids[rows].sum(1) % 3).backward()
            optimizer.step()
    return {name: tensor.detach() for name, tensor in model.named_parameters()}


def test_a_model_that_is_called_by_name_is_a_plain_loop_on_any_number_of_processes(
    launch: Launch, project: Path
) -> None:
    def train(world: int) -> Any:
        settings = ("--cpu", str(world), "--name", f"on{world}", "--json")
        done = launch("train", "dict.yaml", "data.max_micro_batch=2", *settings, cwd=project)
        assert done.status == 0, done.err
        assert "a batch is a dict: labels is the target, the model gets the others by name" in done.err
        return done.document

    three = train(3)
    weights = _by_hand(project)
    for name, tensor in final_weights(three).items():
        assert torch.allclose(tensor, weights[name], rtol=0, atol=1e-12), name
    assert 0 <= three["metrics"]["val/accuracy"] <= 1
    check_equal_training(train(1), three, 1e-12)


def test_a_loss_of_the_models_own_is_refused_with_the_way_out(project: Path) -> None:
    with pytest.raises(
        TrainingError, match="returned a loss of its own: a mean over this rank's part"
    ) as caught:
        build_training(open_session(project / "dict.yaml", ["model.args={own_loss: true}"]))
    assert "return out.loss * n, n" in caught.value.hint


def test_the_key_has_to_be_there(project: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"data\.target=label: a batch is labels, input_ids, attention_mask"
    ):
        build_training(open_session(project / "dict.yaml", ["data.target=label"]))
    with pytest.raises(UsageError, match="samples of digits are pairs already"):
        open_session(project / "dict.yaml", ["data.use=digits", "model.use=linear"])


def test_a_step_takes_the_batch_as_it_is(project: Path) -> None:
    with pytest.raises(UsageError, match="a step takes the batch as it is"):
        resolve(str(project / "dict.yaml"), ["step=./own.py:step"])


def test_labels_beyond_the_models_outputs_are_named(project: Path) -> None:
    text = (project / "own.py").read_text().replace("% 3, ", "% 4, ")
    (project / "own.py").write_text(text)
    with pytest.raises(DamagedError, match="with 3 classes a label is 0 to 2"):
        build_training(open_session(project / "dict.yaml", []))

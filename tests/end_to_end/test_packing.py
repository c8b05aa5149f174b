"""A language model of characters on packed documents: a hand-written loop's numbers, after any kill."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from lockstep.data.order.sample_order import EpochOrder
from lockstep.data.packing.token_files import document_order
from tests.helpers.launch import Launch
from tests.helpers.run_records import final_weights
from tests.helpers.user_project import KILLED_LOSS

LENGTH, BATCH, END, VOCABULARY = 12, 7, 0, 128
CODE = """
import torch
from torch import nn

def encode(text): return list(text.encode())

class Bigrams(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(128, 128)
        nn.init.zeros_(self.table.weight)
    def forward(self, tokens):
        return self.table(tokens).transpose(1, 2)
"""
LOSS = KILLED_LOSS.replace(
    'return nn.functional.cross_entropy(output, target, reduction="none")',
    'return nn.functional.cross_entropy(output, target, reduction="none").mean(1)',
)
CONFIG = """
data:
  use: shards
  args: {files: "*.jsonl", val_files: "*.jsonl"}
  pack: {length: 12, tokenizer: "./own.py:encode", text: text, end: 0, separate: true}
  batch_size: 7
  workers: 1
model: {use: "./own.py:Bigrams"}
loss: {use: "./own.py:killed"}
optimizer: {use: sgd, lr: 0.5, momentum: 0.9}
train: {epochs: 2, precision: fp64}
checkpoint: {every_steps: 5}
wandb: {mode: disabled}
"""


def _texts() -> list[str]:
    drawn = np.random.default_rng(0)
    return ["".join(map(chr, drawn.integers(97, 103, int(drawn.integers(1, 40))))) for _ in range(60)]


def _by_hand(texts: list[str]) -> torch.Tensor:
    order = document_order(len(texts), shuffled=True).tolist()
    whole = [(byte, at) for at in order for byte in [*texts[at].encode(), END]]
    count = (len(whole) - 1) // LENGTH
    tokens = torch.tensor([byte for byte, _ in whole])
    targets = torch.tensor(
        [after if at == following else -100 for (_, at), (after, following) in pairwise(whole)]
    )
    x, y = (values[: count * LENGTH].view(count, LENGTH) for values in (tokens, targets))
    table = torch.zeros(VOCABULARY, VOCABULARY, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([table], lr=0.5, momentum=0.9)
    for epoch in range(2):
        for start in range(0, count, BATCH):
            rows = torch.from_numpy(
                EpochOrder(count, 0, epoch).indices(start, min(count, start + BATCH)).copy()
            )
            output = table[x[rows]].transpose(1, 2)
            loss = torch.nn.functional.cross_entropy(output, y[rows], reduction="none").mean(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return table.detach()


def test_a_killed_run_that_goes_on_with_more_processes_is_that_of_a_hand_written_loop(
    launch: Launch, tmp_path: Path
) -> None:
    texts = _texts()
    for name, part in (("a", texts[:25]), ("b", texts[25:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in part))
    (tmp_path / "own.py").write_text(CODE + LOSS)
    (tmp_path / "own.yaml").write_text(CONFIG)
    asked = ("own.yaml", "--cpu", "2", "--name", "killed", "--json")
    assert launch("train", *asked, cwd=tmp_path, env={"KILL_AT": "13"}).status != 0
    resumed = launch("resume", "killed", "data.workers=0", "--cpu", "3", "--json", cwd=tmp_path)
    assert resumed.status == 0, resumed.err
    assert f"{len(texts)} documents of {sum(map(len, texts)) + len(texts):,} tokens" in resumed.err
    weight = final_weights(resumed.document)["table.weight"]
    assert torch.allclose(weight, _by_hand(texts), rtol=0, atol=1e-12)

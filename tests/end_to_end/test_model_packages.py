"""Models of other packages, from their own builders: no wrapper, no download."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers.launch import Launch
from tests.helpers.run_records import check_equal_training, final_weights

BERT = """
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

def data():
    g = torch.Generator().manual_seed(0)
    rows = [{"input_ids": torch.randint(1, 40, (6,), generator=g), "attention_mask": torch.ones(6, dtype=torch.int64),
             "labels": number % 3} for number in range(50)]
    return {"train": rows[:40], "val": rows[40:]}

def model():
    sizes = dict(vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    off = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return BertForSequenceClassification(BertConfig(**sizes, **off, num_labels=3))

def step(model, batch):
    logits = model(**batch).logits
    return {"loss": nn.functional.cross_entropy(logits, batch["labels"], reduction="none"), "output": logits}
"""
BERT_CONFIG = """
data: {use: "./exp.py:data", batch_size: 16}
model: {use: "./exp.py:model"}
step: {use: "./exp.py:step"}
optimizer: {use: sgd, lr: 0.1}
train: {epochs: 2, precision: fp64}
"""
BERT_BY_NAME = BERT_CONFIG.replace('step: {use: "./exp.py:step"}\n', "").replace(
    "batch_size", "target: labels, batch_size"
)
TIMM = """
import torch

def data():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 3, 16, 16, generator=g), torch.randint(0, 3, (50,), generator=g)
    return {"train": (x[:40], y[:40]), "val": (x[40:], y[40:])}
"""
TIMM_CONFIG = """
data: {use: "./exp.py:data", batch_size: 16}
model:
  use: "timm:create_model"
  args:
    {model_name: vit_tiny_patch16_224, num_classes: 3, img_size: 16,
     patch_size: 8, embed_dim: 16, depth: 1, num_heads: 2}
optimizer: {use: sgd, lr: 0.1}
train: {epochs: 2, precision: fp64}
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("package", "code", "config"),
    [("transformers", BERT, BERT_CONFIG), ("transformers", BERT, BERT_BY_NAME), ("timm", TIMM, TIMM_CONFIG)],
)
def test_a_model_of_a_package_trains_alike_on_any_number_of_processes(
    launch: Launch, tmp_path: Path, package: str, code: str, config: str
) -> None:
    pytest.importorskip(package)
    folder = tmp_path / "exp"
    folder.mkdir()
    (folder / "exp.py").write_text(code)
    (folder / "exp.yaml").write_text(config)
    one, three = (
        launch("train", "exp.yaml", "--cpu", cpu, "--name", f"run{cpu}", "--json", cwd=folder) for cpu in "13"
    )
    assert one.status == 0, one.err
    assert three.status == 0, three.err
    check_equal_training(one.document, three.document, 1e-12)
    assert all(bool(tensor.isfinite().all()) for tensor in final_weights(one.document).values())
    assert any(tensor.dtype == torch.float64 for tensor in final_weights(one.document).values())

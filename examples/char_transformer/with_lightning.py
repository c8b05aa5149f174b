"""The same training with Lightning: `python with_lightning.py`."""

import math

import lightning as L
import torch
from exp import data, model
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.text import Perplexity


def factor(step, warm, total):
    if step < warm:
        return step / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = model()
        self.perplexity = Perplexity(ignore_index=-100)

    def loss(self, batch):
        x, y = batch
        return cross_entropy(self.model(x), y)

    def training_step(self, batch, _):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        output = self.model(x)
        self.perplexity(output.transpose(1, 2), y)
        self.log("val_loss", cross_entropy(output, y), prog_bar=True, sync_dist=True)
        self.log("val_perplexity", self.perplexity)

    def configure_optimizers(self):
        decayed = [p for p in self.parameters() if p.ndim > 1]
        plain = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=3e-3)
        total = self.trainer.estimated_stepping_batches
        schedule = LambdaLR(optimizer, lambda step: factor(step, math.ceil(total / 10), total))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


L.seed_everything(0)
train, val = (TensorDataset(*data()[part]) for part in ("train", "val"))
trainer = L.Trainer(max_epochs=20, accelerator="auto", devices="auto", gradient_clip_val=1.0)
size = 8 // trainer.world_size
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
trainer.fit(Module(), train, val)

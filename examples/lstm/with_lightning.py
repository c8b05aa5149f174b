"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import data, model
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.text import Perplexity


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = model()
        self.perplexity = Perplexity()

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
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.25, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}


L.seed_everything(0)
train, val = (TensorDataset(*data()[part]) for part in ("train", "val"))
trainer = L.Trainer(max_epochs=5, accelerator="auto", devices="auto", gradient_clip_val=0.25)
size = 16 // trainer.world_size
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
trainer.fit(Module(), train, val)

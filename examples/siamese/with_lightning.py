"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import data, model, step
from torch.utils.data import DataLoader


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = model()

    def loss(self, batch):
        return step(self.model, batch).mean()

    def training_step(self, batch, _):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _):
        self.log("val_loss", self.loss(batch), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


L.seed_everything(0)
train, val = data()["train"], data()["val"]
trainer = L.Trainer(max_epochs=5, accelerator="auto", devices="auto")
size = 32 // trainer.world_size
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
trainer.fit(Module(), train, val)

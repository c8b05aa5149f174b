"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import collate, data, model, step
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
        self.log("val_loss", self.loss(batch), batch_size=len(batch[0]), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


L.seed_everything(0)
train, val = data()["train"], data()["val"]
trainer = L.Trainer(max_epochs=3, accelerator="auto", devices="auto")
size = 16 // trainer.world_size
train, val = (
    DataLoader(train, size, shuffle=True, collate_fn=collate),
    DataLoader(val, size, collate_fn=collate),
)
trainer.fit(Module(), train, val)

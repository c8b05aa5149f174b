"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import data, model
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = model()

    def loss(self, batch):
        one, other = (normalize(self.model(batch[view]), dim=1) for view in ("one", "other"))
        start = self.global_rank * len(one)
        every = self.all_gather(other, sync_grads=True).reshape(-1, other.shape[1])
        return cross_entropy(one @ every.T / 0.2, start + torch.arange(len(one), device=self.device))

    def training_step(self, batch, _):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _):
        self.log("val_loss", self.loss(batch), batch_size=len(batch["one"]), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


L.seed_everything(0)
train, val = data()["train"], data()["val"]
trainer = L.Trainer(max_epochs=5, accelerator="auto", devices="auto")
size = 32 // trainer.world_size
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
trainer.fit(Module(), train, val)

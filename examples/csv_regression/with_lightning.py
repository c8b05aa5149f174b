"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import data, model
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanAbsoluteError, R2Score


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = model()
        self.mae, self.r2 = MeanAbsoluteError(), R2Score()

    def loss(self, batch):
        x, y = batch
        return mse_loss(self.model(x), y)

    def training_step(self, batch, _):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        output = self.model(x)
        self.mae(output, y)
        self.r2(output, y)
        self.log("val_loss", mse_loss(output, y), prog_bar=True)
        self.log_dict({"val_mae": self.mae, "val_r2": self.r2})

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


L.seed_everything(0)
train, val = (TensorDataset(*data()[part]) for part in ("train", "val"))
trainer = L.Trainer(max_epochs=10, accelerator="auto", devices="auto")
size = 16 // trainer.world_size
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
trainer.fit(Module(), train, val)

"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import data, model
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = model()
        self.accuracy = MulticlassAccuracy(2, average="micro")

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
        self.accuracy(output, y)
        self.log("val_loss", cross_entropy(output, y), prog_bar=True)
        self.log("val_accuracy", self.accuracy)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


L.seed_everything(0)
draw = torch.randperm(160, generator=torch.Generator().manual_seed(0)).chunk(5)
x, y = data()["train"]
rest = torch.cat(draw[1:])
train, val = TensorDataset(x[rest], y[rest]), TensorDataset(x[draw[0]], y[draw[0]])
trainer = L.Trainer(max_epochs=5, accelerator="auto", devices="auto")
size = 16 // trainer.world_size
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
trainer.fit(Module(), train, val)

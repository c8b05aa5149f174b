"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import model
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = model()
        self.accuracy = MulticlassAccuracy(10, average="micro")

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
        optimizer = torch.optim.Adadelta(self.parameters(), lr=1.0)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)]


L.seed_everything(0)
train, val = (MNIST("data", part, ToTensor(), download=True) for part in (True, False))
trainer = L.Trainer(max_epochs=14, accelerator="auto", devices="auto")
size = 64 // trainer.world_size
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
trainer.fit(Module(), train, val)

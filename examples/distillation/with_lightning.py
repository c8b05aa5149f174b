"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import mlp, step
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = mlp(16)
        self.teacher = mlp(64).requires_grad_(requires_grad=False)
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def loss(self, batch):
        return step(self.model, batch, self.teacher)["loss"].mean()

    def training_step(self, batch, _):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _):
        terms = step(self.model, batch, self.teacher)
        self.accuracy(terms["output"], batch[1])
        self.log_dict({"val_loss": terms["loss"].mean(), "val_hard": terms["hard"].mean()})
        self.log("val_accuracy", self.accuracy)

    def configure_optimizers(self):
        return torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def on_train_epoch_start(self):
        self.teacher.eval()


L.seed_everything(0)
train, val = (MNIST("data", part, ToTensor(), download=True) for part in (True, False))
trainer = L.Trainer(max_epochs=5, accelerator="auto", devices="auto")
size = 64 // trainer.world_size
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
trainer.fit(Module(), train, val)

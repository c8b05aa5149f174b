"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import model, step
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = model()

    def loss(self, batch):
        return step(self.model, batch)["loss"].mean()

    def training_step(self, batch, _):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _):
        terms = step(self.model, batch)
        self.log_dict({f"val_{name}": term.mean() for name, term in terms.items()})

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


L.seed_everything(0)
train, val = (MNIST("data", part, ToTensor(), download=True) for part in (True, False))
trainer = L.Trainer(max_epochs=5, accelerator="auto", devices="auto")
size = 64 // trainer.world_size
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
trainer.fit(Module(), train, val)

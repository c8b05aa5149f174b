"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import data, model
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassJaccardIndex


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = model()
        self.iou = MulticlassJaccardIndex(3)

    def loss(self, batch):
        return cross_entropy(self.model(batch["image"]), batch["mask"])

    def training_step(self, batch, _):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _):
        output = self.model(batch["image"])
        self.iou(output.argmax(1), batch["mask"])
        self.log("val_loss", cross_entropy(output, batch["mask"]), prog_bar=True)
        self.log("val_mean_iou", self.iou)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


L.seed_everything(0)
train, val = data()["train"], data()["val"]
trainer = L.Trainer(max_epochs=5, accelerator="auto", devices="auto")
size = 16 // trainer.world_size
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
trainer.fit(Module(), train, val)

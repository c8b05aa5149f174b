"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import data
from lightning.pytorch.callbacks import EMAWeightAveraging
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18


def pretrained():
    net = resnet18(num_classes=3)
    saved = {name: part for name, part in load_file("pretrained.safetensors").items() if "fc." not in name}
    net.load_state_dict(saved, strict=False)
    return net


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = pretrained()

    def loss(self, batch):
        x, y = batch
        return cross_entropy(self.model(x), y, label_smoothing=0.1)

    def training_step(self, batch, _):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _):
        self.log("val_loss", self.loss(batch), prog_bar=True)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        schedule = CosineAnnealingLR(optimizer, self.trainer.estimated_stepping_batches)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


L.seed_everything(0)
train, val = data()["train"], TensorDataset(*data()["val"])
trainer = L.Trainer(
    max_epochs=5, accelerator="auto", devices="auto", callbacks=[EMAWeightAveraging(decay=0.99)]
)
size = 32 // trainer.world_size
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
trainer.fit(Module(), train, val)

"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import data, model, step
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

CONFIG = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIG |= {"intermediate_size": 64, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}


def collate(samples):  # to the longest of a process's part
    words = pad_sequence([sample["input_ids"] for sample in samples], batch_first=True)
    label = torch.tensor([sample["label"] for sample in samples])
    return {"input_ids": words, "attention_mask": words > 0, "label": label}


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = model(**CONFIG)
        self.accuracy = MulticlassAccuracy(2, average="micro")

    def loss(self, batch):
        return step(self.model, batch)["loss"].mean()

    def training_step(self, batch, _):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _):
        terms = step(self.model, batch)
        self.accuracy(terms["output"], batch["label"])
        self.log("val_loss", terms["loss"].mean(), prog_bar=True)
        self.log("val_accuracy", self.accuracy)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0)


L.seed_everything(0)
train, val = data()["train"], data()["val"]
trainer = L.Trainer(max_epochs=3, accelerator="auto", devices="auto")
size = 16 // trainer.world_size
train, val = (
    DataLoader(train, size, shuffle=True, collate_fn=collate),
    DataLoader(val, size, collate_fn=collate),
)
trainer.fit(Module(), train, val)

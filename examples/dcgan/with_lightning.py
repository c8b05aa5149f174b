"""The same training with Lightning: `python with_lightning.py`."""

import lightning as L
import torch
from exp import data, model
from torch.nn.functional import softplus
from torch.utils.data import DataLoader


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = model()
        self.automatic_optimization = False

    def training_step(self, batch, _):
        generator, judge = self.model["generator"], self.model["discriminator"]
        for_judge, for_generator = self.optimizers()
        made = generator(batch["code"])
        self.toggle_optimizer(for_judge)
        loss = softplus(-judge(batch["image"])).mean() + softplus(judge(made.detach())).mean()
        for_judge.zero_grad()
        self.manual_backward(loss)
        for_judge.step()
        self.untoggle_optimizer(for_judge)
        self.toggle_optimizer(for_generator)
        wanted = softplus(-judge(generator(batch["code"]))).mean()
        for_generator.zero_grad()
        self.manual_backward(wanted)
        for_generator.step()
        self.untoggle_optimizer(for_generator)
        self.log_dict({"train_discriminator": loss, "train_generator": wanted}, on_epoch=True)

    def configure_optimizers(self):
        parts = self.model["discriminator"], self.model["generator"]
        return [torch.optim.Adam(part.parameters(), lr=2e-4, betas=(0.5, 0.999)) for part in parts]


L.seed_everything(0)
trainer = L.Trainer(max_epochs=5, accelerator="auto", devices="auto", strategy="auto")
trainer.fit(Module(), DataLoader(data()["train"], 64 // trainer.world_size, shuffle=True))

"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import model, step
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor


class Loss(nn.Module):  # DDP sees what goes through a forward
    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, batch):
        return step(self.vae, batch)


set_seed(0)
accelerator = Accelerator()
train, val = (MNIST("data", part, ToTensor(), download=True) for part in (True, False))
size = 64 // accelerator.num_processes
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
net = Loss(model())
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
net, optimizer, train, val = accelerator.prepare(net, optimizer, train, val)


def compute_loss(batch):
    return net(batch)["loss"].mean()


for epoch in range(5):
    net.train()
    for batch in train:
        optimizer.zero_grad()
        accelerator.backward(compute_loss(batch))
        optimizer.step()
    net.eval()
    losses = []
    for batch in val:
        with torch.no_grad():
            loss = compute_loss(batch)
        losses.append(accelerator.gather_for_metrics(loss.repeat(len(batch[1]))))
    val_loss = torch.cat(losses).mean()
    accelerator.print(epoch, val_loss.item())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import mlp, step
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

set_seed(0)
accelerator = Accelerator()
train, val = (MNIST("data", part, ToTensor(), download=True) for part in (True, False))
size = 64 // accelerator.num_processes
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
net = mlp(16)
teacher = mlp(64).requires_grad_(requires_grad=False).eval().to(accelerator.device)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
net, optimizer, train, val = accelerator.prepare(net, optimizer, train, val)

accuracy = MulticlassAccuracy(10, average="micro").to(accelerator.device)


def compute_loss(batch):
    return step(net, batch, teacher)["loss"].mean()


for epoch in range(5):
    net.train()
    for batch in train:
        optimizer.zero_grad()
        accelerator.backward(compute_loss(batch))
        optimizer.step()
    net.eval()
    losses = []
    accuracy.reset()
    for batch in val:
        with torch.no_grad():
            terms = step(net, batch, teacher)
        accuracy.update(*accelerator.gather_for_metrics((terms["output"], batch[1])))
        losses.append(accelerator.gather_for_metrics(terms["loss"]))
    val_loss = torch.cat(losses).mean()
    accelerator.print(epoch, val_loss.item(), accuracy.compute().item())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import model
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

set_seed(0)
accelerator = Accelerator()
train, val = (MNIST("data", part, ToTensor(), download=True) for part in (True, False))
size = 64 // accelerator.num_processes
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
net = model()
optimizer = torch.optim.Adadelta(net.parameters(), lr=1.0)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)
net, optimizer, train, val = accelerator.prepare(net, optimizer, train, val)

accuracy = MulticlassAccuracy(10, average="micro").to(accelerator.device)


def compute_loss(batch):
    x, y = batch
    return cross_entropy(net(x), y)


for epoch in range(14):
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
            output = net(batch[0])
        loss = cross_entropy(output, batch[1])
        accuracy.update(*accelerator.gather_for_metrics((output, batch[1])))
        losses.append(accelerator.gather_for_metrics(loss.repeat(len(batch[1]))))
    val_loss = torch.cat(losses).mean()
    schedule.step()
    accelerator.print(epoch, val_loss.item(), accuracy.compute().item())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import data, model
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

set_seed(0)
accelerator = Accelerator()
draw = torch.randperm(160, generator=torch.Generator().manual_seed(0)).chunk(5)
x, y = data()["train"]
rest = torch.cat(draw[1:])
train, val = TensorDataset(x[rest], y[rest]), TensorDataset(x[draw[0]], y[draw[0]])
size = 16 // accelerator.num_processes
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
net = model()
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
net, optimizer, train, val = accelerator.prepare(net, optimizer, train, val)

accuracy = MulticlassAccuracy(2, average="micro").to(accelerator.device)


def compute_loss(batch):
    x, y = batch
    return cross_entropy(net(x), y)


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
            output = net(batch[0])
        loss = cross_entropy(output, batch[1])
        accuracy.update(*accelerator.gather_for_metrics((output, batch[1])))
        losses.append(accelerator.gather_for_metrics(loss.repeat(len(batch[1]))))
    val_loss = torch.cat(losses).mean()
    accelerator.print(epoch, val_loss.item(), accuracy.compute().item())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

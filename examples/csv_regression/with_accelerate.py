"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import data, model
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanAbsoluteError, MetricCollection, R2Score

set_seed(0)
accelerator = Accelerator()
train, val = (TensorDataset(*data()[part]) for part in ("train", "val"))
size = 16 // accelerator.num_processes
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
net = model()
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
net, optimizer, train, val = accelerator.prepare(net, optimizer, train, val)

metrics = MetricCollection([MeanAbsoluteError(), R2Score()]).to(accelerator.device)


def compute_loss(batch):
    x, y = batch
    return mse_loss(net(x), y)


for epoch in range(10):
    net.train()
    for batch in train:
        optimizer.zero_grad()
        accelerator.backward(compute_loss(batch))
        optimizer.step()
    net.eval()
    losses = []
    metrics.reset()
    for batch in val:
        with torch.no_grad():
            output = net(batch[0])
        loss = mse_loss(output, batch[1])
        metrics.update(*accelerator.gather_for_metrics((output, batch[1])))
        losses.append(accelerator.gather_for_metrics(loss.repeat(len(batch[1]))))
    val_loss = torch.cat(losses).mean()
    accelerator.print(epoch, val_loss.item(), metrics.compute())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

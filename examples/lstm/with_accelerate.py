"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import data, model
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

set_seed(0)
accelerator = Accelerator()
train, val = (TensorDataset(*data()[part]) for part in ("train", "val"))
size = 16 // accelerator.num_processes
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
net = model()
optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.25, patience=0)
net, optimizer, train, val = accelerator.prepare(net, optimizer, train, val)


def compute_loss(batch):
    x, y = batch
    return cross_entropy(net(x), y)


for epoch in range(5):
    net.train()
    for batch in train:
        optimizer.zero_grad()
        accelerator.backward(compute_loss(batch))
        accelerator.clip_grad_norm_(net.parameters(), 0.25)
        optimizer.step()
    net.eval()
    losses = []
    for batch in val:
        with torch.no_grad():
            loss = compute_loss(batch)
        losses.append(accelerator.gather_for_metrics(loss.repeat(len(batch[1]))))
    val_loss = torch.cat(losses).mean()
    schedule.step(val_loss)
    accelerator.print(epoch, val_loss.item(), val_loss.exp().item())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

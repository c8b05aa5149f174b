"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import data, model
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset


def factor(step, warm, total):
    if step < warm:
        return step / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))


set_seed(0)
accelerator = Accelerator()
train, val = (TensorDataset(*data()[part]) for part in ("train", "val"))
size = 8 // accelerator.num_processes
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
net = model()
decayed = [p for p in net.parameters() if p.ndim > 1]
plain = [p for p in net.parameters() if p.ndim <= 1]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=3e-3)
total = 20 * len(train)
schedule = LambdaLR(optimizer, lambda step: factor(step, math.ceil(total / 10), total))
net, optimizer, train, val, schedule = accelerator.prepare(net, optimizer, train, val, schedule)


def compute_loss(batch):
    x, y = batch
    return cross_entropy(net(x), y)


for epoch in range(20):
    net.train()
    for batch in train:
        optimizer.zero_grad()
        accelerator.backward(compute_loss(batch))
        accelerator.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    net.eval()
    losses = []
    for batch in val:
        with torch.no_grad():
            loss = compute_loss(batch)
        losses.append(accelerator.gather_for_metrics(loss.repeat(len(batch[1]))))
    val_loss = torch.cat(losses).mean()
    accelerator.print(epoch, val_loss.item(), val_loss.exp().item())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

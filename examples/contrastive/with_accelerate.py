"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import data, model
from torch.distributed.nn import all_gather
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader

set_seed(0)
accelerator = Accelerator()
train, val = data()["train"], data()["val"]
size = 32 // accelerator.num_processes
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
net = model()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
net, optimizer, train, val = accelerator.prepare(net, optimizer, train, val)


def compute_loss(batch):
    one, other = (normalize(net(batch[view]), dim=1) for view in ("one", "other"))
    every = torch.cat(all_gather(other)) if accelerator.num_processes > 1 else other
    start = accelerator.process_index * len(one)
    return cross_entropy(one @ every.T / 0.2, start + torch.arange(len(one), device=one.device))


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
        losses.append(accelerator.gather_for_metrics(loss.repeat(len(batch["one"]))))
    val_loss = torch.cat(losses).mean()
    accelerator.print(epoch, val_loss.item())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

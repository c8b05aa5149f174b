"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import collate, data, model, step
from torch.utils.data import DataLoader

set_seed(0)
accelerator = Accelerator()
train, val = data()["train"], data()["val"]
size = 16 // accelerator.num_processes
train, val = (
    DataLoader(train, size, shuffle=True, collate_fn=collate),
    DataLoader(val, size, collate_fn=collate),
)
net = model()
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
net, optimizer, train, val = accelerator.prepare(net, optimizer, train, val)


def compute_loss(batch):
    return step(net, batch).mean()


for epoch in range(3):
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
        losses.append(accelerator.gather_for_metrics(loss.repeat(len(batch[0]))))
    val_loss = torch.cat(losses).mean()
    accelerator.print(epoch, val_loss.item())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

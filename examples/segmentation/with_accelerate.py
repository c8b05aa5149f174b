"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import data, model
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassJaccardIndex

set_seed(0)
accelerator = Accelerator()
train, val = data()["train"], data()["val"]
size = 16 // accelerator.num_processes
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
net = model()
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
net, optimizer, train, val = accelerator.prepare(net, optimizer, train, val)

iou = MulticlassJaccardIndex(3).to(accelerator.device)


def compute_loss(batch):
    return cross_entropy(net(batch["image"]), batch["mask"])


for epoch in range(5):
    net.train()
    for batch in train:
        optimizer.zero_grad()
        accelerator.backward(compute_loss(batch))
        optimizer.step()
    net.eval()
    losses = []
    iou.reset()
    for batch in val:
        with torch.no_grad():
            output = net(batch["image"])
        loss = cross_entropy(output, batch["mask"])
        iou.update(*accelerator.gather_for_metrics((output.argmax(1), batch["mask"])))
        losses.append(accelerator.gather_for_metrics(loss.repeat(len(batch["mask"]))))
    val_loss = torch.cat(losses).mean()
    accelerator.print(epoch, val_loss.item(), iou.compute().item())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

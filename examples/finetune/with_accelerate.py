"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import data
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18


def pretrained():
    net = resnet18(num_classes=3)
    saved = {name: part for name, part in load_file("pretrained.safetensors").items() if "fc." not in name}
    net.load_state_dict(saved, strict=False)
    return net


set_seed(0)
accelerator = Accelerator()
train, val = data()["train"], TensorDataset(*data()["val"])
size = 32 // accelerator.num_processes
train, val = DataLoader(train, size, shuffle=True), DataLoader(val, size)
net = pretrained()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
schedule = CosineAnnealingLR(optimizer, 5 * len(train))
net, optimizer, train, val, schedule = accelerator.prepare(net, optimizer, train, val, schedule)


average = AveragedModel(
    accelerator.unwrap_model(net), multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True
)


def compute_loss(model, batch):
    x, y = batch
    return cross_entropy(model(x), y, label_smoothing=0.1)


for epoch in range(5):
    net.train()
    for batch in train:
        optimizer.zero_grad()
        accelerator.backward(compute_loss(net, batch))
        optimizer.step()
        schedule.step()
        average.update_parameters(accelerator.unwrap_model(net))
    average.eval()
    losses = []
    for batch in val:
        with torch.no_grad():
            loss = compute_loss(average, batch)
        losses.append(accelerator.gather_for_metrics(loss.repeat(len(batch[1]))))
    val_loss = torch.cat(losses).mean()
    accelerator.print(epoch, val_loss.item())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

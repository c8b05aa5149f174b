"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import data, model
from torch.nn.functional import softplus
from torch.utils.data import DataLoader

set_seed(0)
accelerator = Accelerator()
train = DataLoader(data()["train"], 64 // accelerator.num_processes, shuffle=True)
net = model()
judge, generator = net["discriminator"], net["generator"]
for_judge = torch.optim.Adam(judge.parameters(), lr=2e-4, betas=(0.5, 0.999))
for_generator = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
judge, generator, for_judge, for_generator, train = accelerator.prepare(
    judge, generator, for_judge, for_generator, train
)
for epoch in range(5):
    for batch in train:
        made = generator(batch["code"])
        for_judge.zero_grad()
        loss = softplus(-judge(batch["image"])).mean() + softplus(judge(made.detach())).mean()
        accelerator.backward(loss)
        for_judge.step()
        for_generator.zero_grad()
        wanted = softplus(-judge(made)).mean()
        accelerator.backward(wanted)
        for_generator.step()
    accelerator.print(epoch, loss.item(), wanted.item())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

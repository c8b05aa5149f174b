"""The same training with Accelerate: `accelerate launch with_accelerate.py`."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from exp import data, model, step
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

CONFIG = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIG |= {"intermediate_size": 64, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}


def collate(samples):  # to the longest of a process's part
    words = pad_sequence([sample["input_ids"] for sample in samples], batch_first=True)
    label = torch.tensor([sample["label"] for sample in samples])
    return {"input_ids": words, "attention_mask": words > 0, "label": label}


set_seed(0)
accelerator = Accelerator()
train, val = data()["train"], data()["val"]
size = 16 // accelerator.num_processes
train, val = (
    DataLoader(train, size, shuffle=True, collate_fn=collate),
    DataLoader(val, size, collate_fn=collate),
)
net = model(**CONFIG)
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0)
net, optimizer, train, val = accelerator.prepare(net, optimizer, train, val)

accuracy = MulticlassAccuracy(2, average="micro").to(accelerator.device)


def compute_loss(batch):
    return step(net, batch)["loss"].mean()


for epoch in range(3):
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
            terms = step(net, batch)
        accuracy.update(*accelerator.gather_for_metrics((terms["output"], batch["label"])))
        losses.append(accelerator.gather_for_metrics(terms["loss"]))
    val_loss = torch.cat(losses).mean()
    accelerator.print(epoch, val_loss.item(), accuracy.compute().item())
    accelerator.save_state(f"checkpoints/epoch_{epoch}")

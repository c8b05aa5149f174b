"""A BERT from its configuration; sentences of different lengths are padded to the longest of the global batch."""

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification


class Sentences(Dataset):
    def __init__(self, seeds, words):
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.lengths = [int(torch.randint(4, 20, (), generator=draw)) for draw in draws]
        pairs = zip(draws, self.lengths, strict=True)
        self.sentences = [torch.randint(1, words, (length,), generator=draw) for draw, length in pairs]

    def __len__(self):
        return len(self.sentences)

    def __getitem__(self, i):
        return {"input_ids": self.sentences[i], "label": int(self.sentences[i][0] % 2)}


def data(train=128, val=32, words=64):
    return {"train": Sentences(range(train), words), "val": Sentences(range(train, train + val), words)}


def model(**config):
    return BertForSequenceClassification(BertConfig(**config))


def step(model, batch):
    words = {key: value for key, value in batch.items() if key != "label"}
    output = model(**words).logits
    loss = torch.nn.functional.cross_entropy(output, batch["label"], reduction="none")
    return {"loss": loss, "output": output, "target": batch["label"]}

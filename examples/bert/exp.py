"""A BERT from its configuration; sentences of different lengths are padded to the longest of the global batch."""

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification


class Sentences(Dataset):
    def __init__(self, seeds, words):
        self.seeds, self.words = seeds, words

    def __len__(self):
        return len(self.seeds)

    def __getitem__(self, i):
        draw = torch.Generator().manual_seed(self.seeds[i])
        words = torch.randint(1, self.words, (int(torch.randint(4, 20, (), generator=draw)),), generator=draw)
        return {"input_ids": words, "attention_mask": torch.ones_like(words), "label": int(words[0] % 2)}


def data(train=128, val=32, words=64):
    return {"train": Sentences(range(train), words), "val": Sentences(range(train, train + val), words)}


def model(**config):
    return BertForSequenceClassification(BertConfig(**config))


def step(model, batch):
    label = batch.pop("label")
    return torch.nn.functional.cross_entropy(model(**batch).logits, label, reduction="none")

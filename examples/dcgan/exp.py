"""A DCGAN as its authors train it: the discriminator first, then the generator against the new discriminator."""

import torch
from torch import nn
from torch.nn.functional import softplus
from torch.utils.data import Dataset


class Rings(Dataset):
    def __len__(self):
        return 256

    def __getitem__(
        self, i
    ):  # what is drawn here is drawn anew in each epoch, alike on any number of processes
        place = torch.linspace(-1, 1, 28)
        image = torch.exp(-20 * ((place**2 + place[:, None] ** 2).sqrt() - torch.rand(())) ** 2)
        return {"image": image[None], "code": torch.randn(16, 1, 1)}


def data():
    return {"train": Rings()}


def model(width=16):
    up, down = nn.ConvTranspose2d, nn.Conv2d
    made = [up(16, 2 * width, 7), nn.ReLU(), up(2 * width, width, 4, 2, 1), nn.ReLU(), up(width, 1, 4, 2, 1)]
    seen = [down(1, width, 4, 2, 1), nn.LeakyReLU(0.2), down(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2)]
    judged = nn.Sequential(*seen, down(2 * width, 1, 7), nn.Flatten(0))
    return nn.ModuleDict({"generator": nn.Sequential(*made, nn.Tanh()), "discriminator": judged})


def discriminator(model, batch):
    judge, made = model["discriminator"], model["generator"](batch["code"]).detach()
    return softplus(-judge(batch["image"])) + softplus(judge(made))


def generator(model, batch):
    return softplus(-model["discriminator"](model["generator"](batch["code"])))

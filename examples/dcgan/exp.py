"""A DCGAN as its authors train it: the discriminator first, then the generator against the new discriminator."""

import torch
from torch import nn
from torch.nn.functional import softplus


class GAN(nn.Module):
    def __init__(self, width, latent):
        super().__init__()
        self.latent = latent
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(latent, 2 * width, 7), nn.ReLU(), nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.ReLU(), nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh())  # fmt: skip
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.LeakyReLU(0.2), nn.Conv2d(2 * width, 1, 7), nn.Flatten(0))  # fmt: skip


def model(width=16, latent=16):
    return GAN(width, latent)


def discriminator(model, batch, draw=torch.randn):
    image = batch[0]
    made = model.generator(draw(len(image), model.latent, 1, 1, dtype=image.dtype, device=image.device))
    return softplus(-model.discriminator(image)) + softplus(model.discriminator(made.detach()))


def generator(model, batch, draw=torch.randn):
    image = batch[0]
    made = model.generator(draw(len(image), model.latent, 1, 1, dtype=image.dtype, device=image.device))
    return softplus(-model.discriminator(made))

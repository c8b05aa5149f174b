"""A variational autoencoder: a loss of two terms, both of them logged."""

import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self, width, latent):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 2 * latent)
        )
        self.decoder = nn.Sequential(nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, 784))


def model(width=64, latent=8):
    return VAE(width, latent)


def step(model, batch, noise=1.0):
    image, _ = batch
    mean, log_variance = model.encoder(image).chunk(2, 1)
    code = mean + noise * torch.randn_like(mean) * (log_variance / 2).exp()
    wrong = nn.functional.mse_loss(model.decoder(code), image.flatten(1), reduction="none").sum(1)
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    return {"loss": wrong + kl, "reconstruction": wrong, "kl": kl}

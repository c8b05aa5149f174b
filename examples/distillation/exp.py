"""Distillation: a teacher that is neither trained nor saved."""

from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax


def mlp(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))


def step(model, batch, teacher, temperature=4.0, share=0.7):
    image, label = batch
    output, taught = model(image), teacher(image)
    soft = kl_div(
        log_softmax(output / temperature, 1), softmax(taught / temperature, 1), reduction="none"
    ).sum(1)
    hard = cross_entropy(output, label, reduction="none")
    return {"loss": share * temperature**2 * soft + (1 - share) * hard, "hard": hard, "output": output}

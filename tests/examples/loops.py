"""What each example is in plain torch: loops as one writes them by hand, on the same batches from the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, StepLR

Epochs = list[list[Any]]
"""The global batches of each epoch."""
Loop = Callable[[nn.Module, Epochs, dict[str, Any]], nn.Module]
"""Trains the model on the epochs and returns what a checkpoint holds; further arguments are what an example needs."""


def _train(
    epochs: Epochs,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Any], torch.Tensor],
    *,
    schedule: LRScheduler | None = None,
    by_epoch: LRScheduler | None = None,
    clip: tuple[nn.Module, float] | None = None,
) -> None:
    for epoch in epochs:
        for batch in epoch:
            optimizer.zero_grad()
            loss(batch).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(clip[0].parameters(), clip[1])
            optimizer.step()
            if schedule is not None:
                schedule.step()
        if by_epoch is not None:
            by_epoch.step()


def _adam(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr, foreach=False)


def mnist_cnn(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0, foreach=False)
    fall = StepLR(optimizer, 1, gamma=0.7)
    _train(epochs, optimizer, lambda b: functional.cross_entropy(model(b[0]), b[1]), by_epoch=fall)
    return model


def char_transformer(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    # The bias of keys has a gradient of nothing but rounding, which a small eps would make a step of.
    optimizer = torch.optim.AdamW(groups, lr=3e-3, eps=1e-4, foreach=False)
    total = sum(map(len, epochs))
    warm = math.ceil(total / 10)

    def factor(step: int) -> float:
        if step < warm:
            return step / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))

    def loss(batch: Any) -> torch.Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1], ignore_index=-100)

    _train(epochs, optimizer, loss, schedule=LambdaLR(optimizer, factor), clip=(model, 1.0))
    return model


def segmentation(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    _train(epochs, _adam(model, 0.01), lambda b: functional.cross_entropy(model(b["image"]), b["mask"]))
    return model


def vae(model: Any, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    def loss(batch: Any) -> torch.Tensor:
        mean, log_variance = model.encoder(batch[0]).chunk(2, 1)
        made = model.decoder(mean)  # the test leaves out the noise, which each process draws for itself
        wrong = (made - batch[0].flatten(1)).square().sum()
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
        return (wrong + kl) / len(mean)

    _train(epochs, _adam(model, 1e-3), loss)
    return model


def dcgan(model: Any, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    one, other = model["discriminator"], model["generator"]
    first = torch.optim.Adam(one.parameters(), lr=2e-4, betas=(0.5, 0.999), foreach=False)
    second = torch.optim.Adam(other.parameters(), lr=2e-4, betas=(0.5, 0.999), foreach=False)
    for epoch in epochs:
        for batch in epoch:
            image, made = batch["image"], other(batch["code"])
            first.zero_grad()
            (
                functional.softplus(-one(image)).mean() + functional.softplus(one(made.detach())).mean()
            ).backward()
            first.step()
            second.zero_grad()
            functional.softplus(-one(made)).mean().backward()
            second.step()
    return model


def siamese(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    def loss(batch: Any) -> torch.Tensor:
        distance = ((model(batch["one"]) - model(batch["other"])).square().sum(1) + 1e-9).sqrt()
        return torch.where(batch["same"], distance**2, functional.relu(1 - distance) ** 2).mean()

    _train(epochs, _adam(model, 1e-3), loss)
    return model


def bert(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    def loss(batch: Any) -> torch.Tensor:
        scores = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return functional.cross_entropy(scores, batch["label"])

    _train(epochs, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0, foreach=False), loss)
    return model


def csv_regression(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    _train(epochs, _adam(model, 0.01), lambda b: functional.mse_loss(model(b[0]), b[1]))
    return model


def distillation(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    teacher = more["teacher"]

    def loss(batch: Any) -> torch.Tensor:
        output = model(batch[0])
        with torch.no_grad():
            taught = teacher(batch[0])
        soft = functional.kl_div((output / 4).log_softmax(1), (taught / 4).softmax(1), reduction="batchmean")
        return 0.7 * 16 * soft + 0.3 * functional.cross_entropy(output, batch[1])

    _train(epochs, _adam(model, 1e-3), loss)
    return model


def finetune(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    saved, own = load_file("pretrained.safetensors"), model.state_dict()
    model.load_state_dict(
        {name: saved[name] if saved[name].shape == own[name].shape else own[name] for name in own}
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, foreach=False)
    total = sum(map(len, epochs))
    fall = LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / total)))

    def loss(batch: Any) -> torch.Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.1)

    _train(epochs, optimizer, loss, schedule=fall)
    return model


def contrastive(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    def loss(batch: Any) -> torch.Tensor:
        one, other = (functional.normalize(model(view), dim=1) for view in (batch["one"], batch["other"]))
        return functional.cross_entropy(one @ other.T / 0.2, torch.arange(len(one)))

    _train(epochs, _adam(model, 1e-3), loss)
    return model


def detection(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    def loss(batch: Any) -> torch.Tensor:
        images, boxes = batch
        target = torch.zeros_like(images)
        for number, corners in enumerate(boxes):
            for top, left, _, _ in corners.tolist():
                target[number, 0, int(top), int(left)] = 1
        wrong = functional.binary_cross_entropy_with_logits(model(images), target, reduction="sum")
        return wrong / len(images)

    _train(epochs, _adam(model, 0.01), loss)
    return model


def kfold(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    _train(epochs, _adam(model, 0.01), lambda b: functional.cross_entropy(model(b[0]), b[1]))
    return model


def lstm(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, foreach=False)

    def loss(batch: Any) -> torch.Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1])

    _train(epochs, optimizer, loss, clip=(model, 0.25))
    return model


def mixture(model: nn.Module, epochs: Epochs, more: dict[str, Any]) -> nn.Module:
    _train(epochs, _adam(model, 0.01), lambda b: functional.cross_entropy(model(b[0]), b[1]))
    return model


LOOPS: dict[str, Loop] = {
    loop.__name__: loop
    for loop in (
        mnist_cnn, char_transformer, segmentation, vae, dcgan, siamese, bert, csv_regression, distillation, finetune,
        contrastive, detection, kfold, lstm, mixture,
    )
}  # fmt: skip


def batches_of(session: Any, epochs: int) -> Iterator[list[Any]]:
    """Yield the global batches of each epoch, as one process reads them."""
    for epoch in range(epochs):
        yield [fetched.micro[0] for fetched in session.train_feed.fetch(session.train_work(epoch, 0))]

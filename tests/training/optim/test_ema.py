from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lockstep.training.checkpoint.storage import CheckpointContents
from lockstep.training.config.train_parts import EmaConfig
from lockstep.training.optim.ema import Ema, warmed_up_decay
from lockstep.training.tensors.trainable_parameters import trainable


def _moved(model: nn.Module, ema: Ema, steps: int) -> list[dict[str, torch.Tensor]]:
    """The parameters after each of some steps that move them."""
    seen = []
    for step in range(1, steps + 1):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.arange(parameter.numel()).reshape(parameter.shape) * 0.1 + step)
        ema.update(step)
        seen.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
    return seen


def test_it_is_the_textbook_average() -> None:
    model = nn.Linear(3, 2).double()
    expected = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    ema = Ema(EmaConfig(decay=0.9), trainable(model))
    for number, seen in enumerate(_moved(model, ema, 30), 1):
        kept = warmed_up_decay(EmaConfig(decay=0.9), number)
        expected = {name: kept * value + (1 - kept) * seen[name] for name, value in expected.items()}
    for name, average in ema.tensors().items():
        assert torch.allclose(average, expected[name], rtol=1e-14)


def test_with_its_full_decay_it_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockstep.training.optim.ema.warmed_up_decay", lambda config, _: config.decay)
    model = nn.Linear(3, 2).double()
    ema = Ema(EmaConfig(decay=0.75), trainable(model))
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.75))
    theirs.update_parameters(model)  # the first is a copy
    for step in range(1, 6):
        _moved(model, ema, 1)
        theirs.update_parameters(model)
        for name, parameter in theirs.module.named_parameters():
            assert torch.allclose(ema.tensors()[name], parameter, rtol=1e-14), step


def test_the_first_updates_forget_the_random_start() -> None:
    rates = [warmed_up_decay(EmaConfig(decay=0.999), n) for n in (1, 10, 100, 10_000)]
    assert rates == [2 / 11, 11 / 20, 101 / 110, 0.999]


def test_it_is_updated_every_so_many_steps_only() -> None:
    model = nn.Linear(3, 2)
    ema = Ema(EmaConfig(decay=0.9, every_steps=4), trainable(model))
    start = ema.tensors()["weight"].clone()
    _moved(model, ema, 3)
    assert torch.equal(ema.tensors()["weight"], start)
    ema.update(4)
    assert not torch.equal(ema.tensors()["weight"], start)


def test_inside_the_model_computes_with_the_average_and_afterwards_with_its_own() -> None:
    model = nn.Linear(3, 2)
    ema = Ema(EmaConfig(decay=0.9), trainable(model))
    _moved(model, ema, 5)
    own, average = model.weight.detach().clone(), ema.tensors()["weight"].clone()
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    x = torch.ones(1, 3)
    with ema.applied():
        assert torch.equal(model.weight, average)
        assert torch.allclose(model(x), x @ average.T + ema_bias(model))
    assert torch.equal(model.weight, own)
    assert torch.equal(ema.tensors()["weight"], average)
    assert [parameter.data_ptr() for parameter in model.parameters()] == addresses


def ema_bias(model: nn.Linear) -> torch.Tensor:
    return model.bias.detach()


def test_what_is_frozen_is_not_averaged_and_without_ema_nothing_is() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(requires_grad=False)
    assert Ema(EmaConfig(), trainable(model)).tensors().keys() == {"weight"}
    ema = Ema(None, trainable(model))
    ema.update(1)
    assert ema.tensors() == {}


def test_it_goes_on_from_what_was_saved() -> None:
    model = nn.Linear(3, 2)
    ema = Ema(EmaConfig(decay=0.9), trainable(model))
    _moved(model, ema, 3)
    saved = {name: tensor.clone() for name, tensor in ema.tensors().items()}
    other = Ema(EmaConfig(decay=0.9), trainable(model))
    other.load(saved)
    assert all(torch.equal(other.tensors()[name], saved[name]) for name in saved)


def test_a_weight_with_two_names_has_its_average_by_both() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    ema = Ema(EmaConfig(decay=0.9), trainable(model, every_name=True))
    with torch.no_grad():
        model[0].weight += 1
    ema.update(1)
    average = ema.tensors()
    assert average.keys() == {"0.weight", "1.weight"}
    assert not torch.equal(average["0.weight"], model[0].weight)
    with ema.applied():
        shown = {name: value.clone() for name, value in model.state_dict().items()}
    weights = CheckpointContents(dict(model.state_dict()), {}, {}, {}, average).weights
    assert all(torch.equal(weights[name], value) for name, value in shown.items())

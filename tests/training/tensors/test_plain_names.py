"""A wrapper around a model changes the names of all its tensors; checkpoints have the plain model's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lockstep.training.checkpoint.model_weights import load_weights
from lockstep.training.components.batch_norm import running_statistics
from lockstep.training.tensors.plain_names import (
    find_renaming,
    plain_buffers,
    plain_name,
    plain_state,
    without_parallel_wrappers,
)
from lockstep.training.tensors.state_loading import load_plain_state
from lockstep.training.tensors.trainable_parameters import trainable


def _model() -> nn.Module:
    model = nn.Sequential()
    model.encoder, model.head = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Linear(4, 2)
    return model


def _compiled(model: nn.Module, how: str) -> nn.Module:
    if how in ("part", "both"):
        model.encoder = torch.compile(model.encoder, backend="eager")
    return torch.compile(model, backend="eager") if how in ("whole", "both") else model


@pytest.mark.parametrize("how", ["whole", "part", "both"])
def test_a_compiled_model_has_the_names_of_the_plain_one(how: str) -> None:
    plain, compiled = _model(), _compiled(_model(), how)
    assert plain_state(compiled).keys() == plain.state_dict().keys() != compiled.state_dict().keys()
    assert [name for name, _ in trainable(compiled)] == [name for name, _ in plain.named_parameters()]
    assert plain_buffers(compiled).keys() == dict(plain.named_buffers()).keys()
    assert running_statistics(compiled).keys() == {"encoder.1.running_mean", "encoder.1.running_var"}
    load_plain_state(compiled, plain.state_dict())
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in plain_state(compiled).items())


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", ""])
@pytest.mark.parametrize("how", ["plain", "both"])
def test_weights_of_a_wrapped_model_fit_a_plain_one_and_the_other_way_round(prefix: str, how: str) -> None:
    saved = {f"{prefix}{name}": value for name, value in _model().state_dict().items()}
    model = _compiled(_model(), how)
    load_weights(model, saved, "a file")
    assert all(torch.equal(value, saved[f"{prefix}{name}"]) for name, value in plain_state(model).items())


@pytest.mark.parametrize(
    ("saved", "own"),
    [
        ("module.weight", "module.weight"),
        ("module.module.weight", "module.weight"),
        ("a.module.weight", "a.module.weight"),
        ("other.weight", "other.weight"),
    ],
)
def test_a_part_that_is_called_module_keeps_its_name(saved: str, own: str) -> None:
    assert plain_name(own) == own
    assert find_renaming([saved], [own])(saved) == own


def test_parallel_wrappers_are_taken_off_wherever_they_are() -> None:
    model = _model()
    model.encoder = nn.DataParallel(model.encoder)
    bare = without_parallel_wrappers(nn.DataParallel(nn.DataParallel(model)))
    assert bare is model
    assert bare.state_dict().keys() == _model().state_dict().keys()
    assert bare.encoder.module is bare.encoder, "code that knows of the wrapper goes on"

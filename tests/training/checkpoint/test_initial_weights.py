from __future__ import annotations

import argparse
import collections
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from lockstep.data.common.errors import DamagedError, UsageError
from lockstep.data.common.file_hash import file_sha256
from lockstep.training.checkpoint.initial_weights import load_fitting, load_initial_weights
from lockstep.training.config.model_config import ModelConfig
from lockstep.training.config.run_config import WeightsFile
from tests.helpers.sessions import open_session

STRICT = ModelConfig(use="./own.py:model")
PARTIAL = ModelConfig(use="./own.py:model", weights_match="partial")


def _model(seed: int, width: int = 11, outputs: int = 2) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(7, width), nn.BatchNorm1d(width), nn.Linear(width, outputs))


def _kept(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _same(model: nn.Module, state: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if torch.equal(tensor, state[name])}


def test_all_or_nothing_is_loaded_and_the_way_out_is_named() -> None:
    model = _model(0)
    before = _kept(model)
    with pytest.raises(UsageError, match="a file is of another model") as caught:
        load_fitting(model, _kept(_model(1, outputs=5)), "a file", STRICT)
    assert "2.weight: (5, 11) there, (2, 11) here" in caught.value.message
    assert caught.value.hint.endswith("model.weights_match=partial")
    assert _same(model, before) == set(before), "a refused file leaves nothing behind"
    whole = load_fitting(model, _kept(_model(1)), "a file", STRICT)
    assert (whole.notes(), whole.differences()) == ([], [])
    assert _same(model, _kept(_model(1))) == set(before)


def test_partly_what_fits_is_loaded_and_the_rest_is_said() -> None:
    model, other = _model(0), _kept(_model(1, outputs=5))
    before = _kept(model)
    del other["0.bias"]
    other["1.num_batches_tracked"] = torch.tensor(3.0)
    other["extra.weight"] = torch.zeros(3)
    report = load_fitting(model, other, "a file", PARTIAL)
    assert report.loaded == ("0.weight", "1.bias", "1.running_mean", "1.running_var", "1.weight")
    assert _same(model, {**before, **{name: other[name] for name in report.loaded}}) == set(before)
    assert report.notes() == [
        (
            "model.weights: 5 of 9 tensors are from a file; missing there: 0.bias;"
            " of another shape: 1.num_batches_tracked, 2.bias, 2.weight; of no use here: extra.weight"
        )
    ]
    assert report.table() == [
        "0.bias: absent there, (11,) here",
        "0.weight: loaded",
        "1.bias: loaded",
        "1.num_batches_tracked: () there, int64 () here",
        "1.running_mean: loaded",
        "1.running_var: loaded",
        "1.weight: loaded",
        "2.bias: (5,) there, (2,) here",
        "2.weight: (5, 11) there, (2, 11) here",
        "extra.weight: (3,) there, absent here",
    ]


def test_weights_of_which_nothing_fits_are_refused_even_partly() -> None:
    with pytest.raises(UsageError, match="of another model") as caught:
        load_fitting(_model(0), {"encoder.weight": torch.zeros(3)}, "a file", PARTIAL)
    assert "nothing of it fits" in caught.value.hint


@pytest.mark.parametrize("wrap", ["model.{}", "module.{}", "_orig_mod.{}", "net.encoder.{}"])
def test_names_that_another_program_has_put_something_before_are_found(wrap: str) -> None:
    model, other = nn.Sequential(collections.OrderedDict(encoder=_model(0))), _kept(_model(1))
    flat = _model(0)
    if "encoder" in wrap:
        saved = {wrap.format(name): tensor for name, tensor in other.items()}
        load_fitting(model, saved, "a file", STRICT)
        assert _same(model.encoder, other) == set(other)
        load_fitting(model, other, "a file without the prefix", STRICT)
    else:
        load_fitting(flat, {wrap.format(name): tensor for name, tensor in other.items()}, "a file", STRICT)
        assert _same(flat, other) == set(other)


def test_a_file_of_another_head_is_taken_but_for_the_head() -> None:
    """ImageNet's weights for three classes, as a file on disk has them."""
    config = ModelConfig(use="torchvision.squeezenet1_1")
    torch.manual_seed(0)
    model = models.squeezenet1_1(num_classes=3)
    before = _kept(model)
    saved = {name: tensor + 1 for name, tensor in models.squeezenet1_1().state_dict().items()}
    report = load_fitting(model, saved, "a file", config)
    assert _same(model, before) == {"classifier.1.weight", "classifier.1.bias"} == set(report.head)
    assert report.notes() == [
        "model.weights: classifier.1.bias is (1000,) in a file and (3,) here: it begins anew, drawn by train.seed",
        (
            "model.weights: classifier.1.weight is (1000, 512, 1, 1) in a file and (3, 512, 1, 1) here:"
            " it begins anew, drawn by train.seed"
        ),
    ]
    with pytest.raises(UsageError, match="of another model"):
        load_fitting(model, saved, "a file", config.model_copy(update={"head": "keep"}))
    other = {**saved, "features.0.weight": torch.zeros(64, 1, 3, 3)}
    with pytest.raises(UsageError, match=r"features.0.weight: \(64, 1, 3, 3\) there") as caught:
        load_fitting(model, other, "a file", config)
    assert "classifier" not in caught.value.message


def _file(path: Path, content: Any) -> tuple[WeightsFile, ...]:
    torch.save(content, path)
    return (WeightsFile(str(path), file_sha256(path)),)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin"])
def test_what_torch_has_saved_is_read_bare_or_among_other_things(own: Path, suffix: str) -> None:
    state = {name: torch.full(tuple(tensor.shape), 0.5) for name, tensor in _own_model(own).items()}
    for content in (state, {"epoch": 3, "state_dict": state}, {"model": state, "optimizer": {"state": {}}}):
        session = open_session(own / "own.yaml", [])
        load_initial_weights(session, _file(own / f"saved{suffix}", content))
        assert all(bool((tensor == 0.5).all()) for tensor in session.model.state_dict().values())
        assert session.notes == []


def _own_model(own: Path) -> dict[str, torch.Tensor]:
    return open_session(own / "own.yaml", []).model.state_dict()


def test_code_in_a_file_is_not_run_and_what_is_no_state_is_named(own: Path) -> None:
    session = open_session(own / "own.yaml", [])
    path = own / "saved.pt"
    with pytest.raises(UsageError, match="holds more than tensors"):
        load_initial_weights(session, _file(path, argparse.Namespace(lr=0.1)))
    with pytest.raises(UsageError, match="is not a state_dict of tensors; it holds epoch, states"):
        load_initial_weights(session, _file(path, {"states": {"a": 1}, "epoch": 3}))
    path.write_bytes(b"cos\nsystem\n")
    with pytest.raises(UsageError, match="holds more than tensors"):
        load_initial_weights(session, (WeightsFile(str(path), file_sha256(path)),))
    files = _file(path, _own_model(own))
    path.write_bytes(b"")
    with pytest.raises(DamagedError, match="has changed"):
        load_initial_weights(session, files)


def test_the_session_tells_what_was_not_loaded(own: Path) -> None:
    session = open_session(own / "own.yaml", ["model.weights_match=partial"])
    state = {"0.weight": torch.ones(11, 7), "2.weight": torch.ones(3, 11)}
    report = load_initial_weights(session, _file(own / "saved.pt", state))
    assert report is not None
    assert session.notes == report.notes() != []
    assert "missing there: 0.bias, 2.bias; of another shape: 2.weight" in session.notes[0]

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from lockstep.data.common.errors import MachineError, UsageError
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.training.components.head import fit_head, head_layers
from lockstep.training.components.models import build_model
from lockstep.training.config.model_config import ModelConfig

MINE = """
from torch import nn
def build():
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 11, bias=False))
"""


@pytest.fixture
def colour(pictures: DatasetInfo) -> DatasetInfo:
    return replace(pictures, input_shape=(3, 64, 64))


def _built(facts: DatasetInfo, base: Path = Path(), **model: Any) -> tuple[nn.Module, list[str]]:
    config = ModelConfig(**model)
    torch.manual_seed(3)
    built = build_model(config, facts, base)
    return built, fit_head(built, config, facts)


@pytest.fixture
def torchvisions_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which torchvision finds the weights of its smallest model, as if they were downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    torch.save(models.squeezenet1_1().state_dict(), folder / "squeezenet1_1-b8a52dc0.pth")
    return folder


def test_torchvisions_own_weights_stay_and_its_head_is_replaced(
    colour: DatasetInfo, torchvisions_weights: Path
) -> None:
    asked: Any = {"use": "torchvision.squeezenet1_1", "args": {"weights": "DEFAULT"}}
    model, notes = _built(colour, **asked)
    saved = torch.load(torchvisions_weights / "squeezenet1_1-b8a52dc0.pth")
    own = model.state_dict()
    assert {name for name in saved if not torch.equal(saved[name], own[name])} == {
        "classifier.1.weight",
        "classifier.1.bias",
    }
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 3)
    what = "model.head: classifier.1 has 1,000 outputs and pictures 3 classes: it is replaced by a new one"
    assert notes == [f"{what}, drawn by train.seed"]
    again, _ = _built(colour, **asked)
    assert all(map(torch.equal, own.values(), again.state_dict().values())), "every rank draws the same head"


def test_a_head_can_be_kept_and_its_classes_can_be_given(
    colour: DatasetInfo, torchvisions_weights: Path
) -> None:
    use = "torchvision.squeezenet1_1"
    kept, notes = _built(colour, use=use, args={"weights": "DEFAULT"}, head="keep")
    assert kept(torch.rand(2, 3, 64, 64)).shape == (2, 1000)
    assert notes == []
    given, _ = _built(colour, use=use, args={"weights": "DEFAULT", "num_classes": 7})
    assert given(torch.rand(2, 3, 64, 64)).shape == (2, 7)


def test_a_first_convolution_of_other_channels_is_said(
    pictures: DatasetInfo, torchvisions_weights: Path
) -> None:
    asked: Any = {"use": "torchvision.squeezenet1_1", "args": {"weights": "DEFAULT"}}
    _, notes = _built(replace(pictures, input_shape=(1, 64, 64)), **asked)
    assert "the first convolution is for 3 channels and the images have 1" in notes[0]


def test_weights_that_cannot_be_downloaded_say_where_they_belong(
    colour: DatasetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(MachineError, match="cannot be downloaded") as caught:
        _built(colour, use="torchvision.squeezenet1_1", args={"weights": "DEFAULT"})
    assert f"{tmp_path}/hub/checkpoints" in caught.value.hint


FAMILIES = {
    "resnet18": ["fc"],
    "googlenet": ["aux1.fc2", "aux2.fc2", "fc"],
    "densenet121": ["classifier"],
    "vit_b_16": ["heads.head"],
    "mobilenet_v3_small": ["classifier.3"],
    "squeezenet1_0": ["classifier.1"],
    "mvit_v1_b": ["head.1"],
    "fcn_resnet50": ["classifier.4"],
    "fasterrcnn_resnet50_fpn": [],
    "raft_small": [],
}
"""A model of each kind of torchvision's, to its heads: those of detectors are no mere list of classes."""


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvisions_heads_are_found_by_what_depends_on_the_number_of_classes(name: str) -> None:
    before = torch.get_rng_state()
    assert head_layers(nn.Identity(), ModelConfig(use=f"torchvision.{name}")) == FAMILIES[name]
    assert torch.equal(before, torch.get_rng_state()), "what is drawn next would depend on it"


def test_regnets_head_is_its_last_layer() -> None:
    with torch.device("cpu"):
        model = models.regnet_y_400mf()
    assert head_layers(model, ModelConfig(use="torchvision.regnet_y_400mf")) == ["fc"]


def test_a_layer_of_ones_own_model_is_replaced_only_by_name(pictures: DatasetInfo, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    asked: Any = {"use": "./mine.py:build"}
    kept, notes = _built(pictures, tmp_path, **asked)
    assert (kept[2].out_features, notes) == (11, [])
    replaced, notes = _built(pictures, tmp_path, **asked, head="2")
    assert (replaced[2].in_features, replaced[2].out_features, replaced[2].bias) == (7, 3, None)
    assert "model.head: 2 has 11 outputs and pictures 3 classes" in notes[0]
    same, notes = _built(replace(pictures, classes=11), tmp_path, **asked, head="2")
    assert torch.equal(same[2].weight, kept[2].weight)
    assert notes == []


def test_a_head_that_cannot_be_found_or_fitted_is_refused(pictures: DatasetInfo, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    with pytest.raises(UsageError, match="no such linear layer or convolution") as caught:
        _built(pictures, tmp_path, use="./mine.py:build", head="classifier")
    assert caught.value.hint == "its last one is 2"
    with pytest.raises(UsageError, match="does not tell how many classes"):
        _built(replace(pictures, classes=None), tmp_path, use="./mine.py:build", head="2")


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(4, 9, 3, stride=2, padding=1, dilation=2), nn.Conv2d(4, 9, (1, 3), bias=False)]
)
def test_a_convolution_is_replaced_by_one_that_differs_in_its_outputs_alone(
    layer: Any, pictures: DatasetInfo
) -> None:
    model = nn.Sequential(layer.double())
    fit_head(model, ModelConfig(use="./mine.py:build", head="0"), pictures)
    new = model[0]
    assert new.out_channels == 3
    assert new.weight.dtype == torch.float64
    same = ("in_channels", "kernel_size", "stride", "padding", "dilation")
    assert [getattr(new, key) for key in same] == [getattr(layer, key) for key in same]
    assert (new.bias is None) == (layer.bias is None)

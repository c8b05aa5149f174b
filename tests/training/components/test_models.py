from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.training.components import batch_norm as batchnorm
from lockstep.training.components.models import build_model
from lockstep.training.config.run_config import ModelConfig
from lockstep.training.tensors.trainable_parameters import trainable


def _build(facts: DatasetInfo, use: str, base: Path = Path(), **args: Any) -> nn.Module:
    return build_model(ModelConfig(use=use, args=args), facts, base)


@pytest.mark.parametrize(
    ("use", "args"),
    [
        ("linear", {}),
        ("mlp", {"hidden": [7, 5], "dropout": 0.1}),
        ("mlp", {"hidden": []}),
        ("cnn", {"channels": [4], "dropout": 0.1}),
        ("cnn", {"channels": [2, 3, 4, 5, 6]}),
    ],
)
def test_a_built_in_model_takes_its_sizes_from_the_data_set(
    pictures: DatasetInfo, use: str, args: Any
) -> None:
    model = _build(pictures, use, **args)
    assert model(torch.rand(4, 1, 12, 10)).shape == (4, 3)
    assert not batchnorm.has_batch_norm(model)


def test_a_built_in_model_treats_every_sample_alone(pictures: DatasetInfo) -> None:
    torch.manual_seed(0)
    model = _build(pictures, "cnn").double()
    x = torch.rand(5, 1, 12, 10, dtype=torch.float64)
    torch.testing.assert_close(model(x)[2:3], model(x[2:3]), rtol=0, atol=1e-14)


def test_a_regression_has_one_output_for_each_component_of_its_target(pictures: DatasetInfo) -> None:
    facts = replace(pictures, input_shape=(5,), classes=None, target_shape=(2,))
    assert _build(facts, "linear")(torch.rand(3, 5)).shape == (3, 2)
    assert _build(replace(facts, target_shape=()), "mlp")(torch.rand(3, 5)).shape == (3, 1)


def test_the_tutorials_mlp_is_784_128_10(pictures: DatasetInfo) -> None:
    model = _build(replace(pictures, input_shape=(1, 28, 28), classes=10), "mlp")
    assert [tuple(p.shape) for p in model.parameters()] == [(128, 784), (128,), (10, 128), (10,)]


@pytest.mark.parametrize(
    ("use", "args", "words"),
    [
        ("mpl", {}, "did you mean mlp"),
        ("nothing_like_it", {}, "no such model"),
        ("torchvision.resnet81", {}, "did you mean torchvision.resnet18"),
        ("mlp", {"hiden": [3]}, "did you mean hidden"),
        ("mlp", {"inputs": 3}, "no such argument"),
        ("mlp", {"hidden": "wide"}, "mlp says"),
        ("mlp", {"hidden": [-1]}, "mlp says"),
        ("mlp", {"dropout": 2}, "mlp says"),
        ("./mine.py:build", {"depth": 1}, "depth"),
    ],
)
def test_what_cannot_be_built_is_a_usage_error(
    pictures: DatasetInfo, tmp_path: Path, use: str, args: Any, words: str
) -> None:
    (tmp_path / "mine.py").write_text("def build(width): ...\n")
    with pytest.raises(UsageError, match=words):
        _build(pictures, use, tmp_path, **args)


def test_a_cnn_needs_images_and_a_built_in_model_a_described_input(pictures: DatasetInfo) -> None:
    with pytest.raises(UsageError, match="needs images"):
        _build(replace(pictures, input_shape=(7,)), "cnn")
    with pytest.raises(UsageError, match="does not tell it"):
        _build(replace(pictures, input_shape=None), "mlp")


def test_torchvisions_models_get_the_classes_and_channels_of_the_data_set(pictures: DatasetInfo) -> None:
    model = _build(replace(pictures, input_shape=(1, 64, 64)), "torchvision.resnet18")
    assert model(torch.rand(2, 1, 64, 64)).shape == (2, 3)
    assert batchnorm.has_batch_norm(model)
    colour = _build(replace(pictures, input_shape=(3, 64, 64)), "torchvision.resnet18", num_classes=7)
    assert colour(torch.rand(2, 3, 64, 64)).shape == (2, 7)


def test_a_users_callable_is_called_with_the_args_of_the_config(
    pictures: DatasetInfo, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef build(width): return nn.Linear(width, 1)\ndef wrong(): return 3\n"
    )
    assert _build(pictures, "./mine.py:build", tmp_path, width=9).in_features == 9
    with pytest.raises(TrainingError, match="returned int"):
        _build(pictures, "./mine.py:wrong", tmp_path)


def test_frozen_parameters_are_not_trained_and_none_at_all_is_an_error() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(requires_grad=False)
    assert [name for name, _ in trainable(model)] == ["1.weight", "1.bias"]
    with pytest.raises(TrainingError, match="no parameter to train"):
        trainable(model.requires_grad_(requires_grad=False))

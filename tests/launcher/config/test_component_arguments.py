"""Arguments of models and losses are compared with the signature before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.config.component_arguments import wrong_arguments
from lockstep.launcher.config.resolution import resolve
from lockstep.training.metrics.metrics import METRICS

OWN = """
import functools
from elsewhere import imported
def model(width=32, *, depth): ...
def open_model(**args): ...
class Net:
    def __init__(self, width, depth=1): ...
class Plain: ...
@functools.cache
def decorated(x): ...
def loss(output, target, margin=1.0): ...
class Loss:
    def __init__(self, gamma, scale=1.0): ...
"""


def wrong(tmp_path: Path, section: str, use: str, **args: Any) -> list[str]:
    (tmp_path / "own.py").write_text(OWN)
    return [message for _, message in wrong_arguments(section, use, args, tmp_path)]


@pytest.mark.parametrize(
    ("section", "use", "args", "messages"),
    [
        ("model", "mlp", {"hidden": [3], "dropout": 0.1}, []),
        (
            "model",
            "mlp",
            {"hiden": [3]},
            ["model.args.hiden: mlp has no such argument; did you mean hidden? it takes hidden, dropout"],
        ),
        ("model", "linear", {"x": 1}, ["model.args.x: linear has no such argument; it takes no arguments"]),
        (
            "model",
            "mlp",
            {"inputs": 3},
            ["model.args.inputs: mlp has no such argument; it takes hidden, dropout"],
        ),
        ("model", "torchvision.resnet18", {"x": 1}, []),
        ("model", "nobody", {"x": 1}, []),
        ("loss", "mse", {"x": 1}, ["loss.args.x: mse has no such argument; it takes no arguments"]),
        ("model", "./own.py:model", {"depth": 2}, []),
        ("model", "./own.py:model", {}, ["model.args: ./own.py:model needs depth"]),
        (
            "model",
            "own:model",
            {"widht": 1, "depth": 2},
            ["model.args.widht: own:model has no such argument; did you mean width? it takes width, depth"],
        ),
        ("model", "./own.py:open_model", {"x": 1}, []),
        ("model", "./own.py:Net", {}, ["model.args: ./own.py:Net needs width"]),
        ("model", "./own.py:Net", {"width": 1, "depth": 1}, []),
        ("model", "./own.py:Plain", {"x": 1}, []),
        ("model", "./own.py:decorated", {"y": 1}, []),
        ("model", "./own.py:imported", {"y": 1}, []),
        ("model", "./nowhere.py:model", {"y": 1}, []),
        ("loss", "./own.py:loss", {"margin": 2}, []),
        (
            "loss",
            "./own.py:loss",
            {"target": 2},
            ["loss.args.target: ./own.py:loss has no such argument; it takes margin"],
        ),
        ("loss", "./own.py:Loss", {"gamma": 1, "scale": 2}, []),
        ("loss", "./own.py:Loss", {}, ["loss.args: ./own.py:Loss needs gamma"]),
        ("metrics", "f1", {"average": "macro", "ignore_index": 3}, []),
        (
            "metrics",
            "top_k",
            {"n": 3},
            ["metrics.args.n: top_k has no such argument; it takes k, ignore_index"],
        ),
        ("metrics", "rmse", {"k": 3}, ["metrics.args.k: rmse has no such argument; it takes no arguments"]),
        ("metrics", "./own.py:loss", {"margin": 2}, []),
        ("metrics", "./own.py:Loss", {}, ["metrics.args: ./own.py:Loss needs gamma"]),
        ("metrics", "torchmetrics.classification:MulticlassAccuracy", {"x": 1}, []),
    ],
)
def test_what_the_signature_does_not_take_is_told(
    tmp_path: Path, section: str, use: str, args: dict[str, Any], messages: list[str]
) -> None:
    assert wrong(tmp_path, section, use, **args) == messages


def test_the_place_of_the_mistake_is_told_before_anything_starts() -> None:
    with pytest.raises(UsageError) as caught:
        resolve("digits", ["model.args.hiden=[3]", "train.epoch=1"])
    first, second = caught.value.message.splitlines()[0], caught.value.message.splitlines()[-1]
    assert "train.epoch" in first + second
    with pytest.raises(
        UsageError, match=r"override model\.args\.hiden=\[3\]: model\.args\.hiden: mlp has no"
    ):
        resolve("digits", ["model.args.hiden=[3]"])


def test_every_built_in_metric_is_looked_up(tmp_path: Path) -> None:
    for name in METRICS:
        (message,) = wrong(tmp_path, "metrics", name, nonsense=1)
        assert message.startswith(f"metrics.args.nonsense: {name} has no such argument")


def test_the_metric_of_a_list_is_told_by_its_line(tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text("data: {use: digits}\nmetrics:\n  - accuracy\n  - {use: f1, args: {averge: macro}}\n")
    with pytest.raises(
        UsageError, match=r"own\.yaml:4.*metrics\.args\.averge: f1 has no .* did you mean average"
    ):
        resolve(str(config), [])

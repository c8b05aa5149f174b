"""Answers recorded calls with an exported model, in a process that knows nothing of the user's code.

Reads one JSON document on stdin and answers with one on stdout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

Answer = Callable[[tuple[Any, ...], dict[str, Any]], list[torch.Tensor]]


def differences(file: str, kind: str, calls: list[dict[str, Any]]) -> list[float]:
    """Return for each call how far the exported model's answer is from the recorded one.

    Args:
        file: the exported model.
        kind: its format.
        calls: as ``ModelCall.saved`` gives them.
    """
    answer = _onnx(file) if kind == "onnx" else _torch_program(file)
    return [_distance(answer(call["args"], call["kwargs"]), call["answer"]) for call in calls]


def _torch_program(file: str) -> Answer:
    model = torch.export.load(file).module()

    def answer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
        with torch.no_grad():
            return _tensors(model(*args, **kwargs))

    return answer


def _onnx(file: str) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def answer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
        given = [tensor.numpy() for tensor in _tensors((args, kwargs))]
        return [torch.from_numpy(out) for out in session.run(None, dict(zip(names, given, strict=True)))]

    return answer


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _distance(answered: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Return the largest difference, in parts of a tensor's largest value or of 1; infinite for other shapes."""
    if [tensor.shape for tensor in answered] != [tensor.shape for tensor in expected]:
        return float("inf")
    return max((_apart(*pair) for pair in zip(answered, expected, strict=True)), default=0.0)


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    if not one.numel():
        return 0.0
    one, other = one.double(), other.double()
    same = (one == other) | (one.isnan() & other.isnan())
    gap = torch.where(same, 0.0, (one - other).abs()).max()
    scale = other[other.isfinite()].abs().max().clamp(min=1.0) if other.isfinite().any() else torch.ones(())
    return float((gap / scale).nan_to_num(nan=float("inf")))


def main() -> None:
    """Answer the question on stdin."""
    asked = json.load(sys.stdin)
    try:
        calls = torch.load(asked["calls"], weights_only=True)
        response: dict[str, Any] = {"differences": differences(asked["file"], asked["format"], calls)}
    except Exception as error:  # noqa: BLE001 - it came out of another library, or of the model
        lines = str(error).strip().splitlines() or [""]
        response = {"problem": f"{type(error).__name__}: {lines[0]}"}
    sys.stdout.write(f"\n{json.dumps(response)}\n")


if __name__ == "__main__":
    main()

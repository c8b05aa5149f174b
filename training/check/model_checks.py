"""``launch check``: does the model keep samples apart, draw only what is seeded, and use its parameters?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves

from ...data.common import user_location
from ..session import StepSeeder, copied, preserved_state, training_mode
from ..tensors import PlainAttributes
from .finding import Finding
from .tensor_recorder import Recorder, first_difference, module_location

_REPEATS = 4  # forwards that must be equal
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_HALF_TOLERANCE = 3e-2  # of the half types
_NAMED = 8  # at most
MODEL_SEEDING_HINT = (
    "draw from torch's global generator, which is seeded by (seed, step, rank): torch.rand, nn.Dropout;"
    " keep no state in the model but parameters and buffers"
)


def check_sample_independence(
    model: nn.Module, x: Any, parts: list[Any], sizes: list[int], depends: Sequence[str] = ()
) -> Finding:
    """Check that in evaluation a sample's output does not depend on the batch it is in.

    Args:
        model: any; its mode is restored.
        x: a batch.
        parts: the same samples in smaller batches.
        sizes: samples of each part.
        depends: what makes training depend on the number of processes.
    """
    with training_mode(model, training=False), torch.no_grad(), preserved_state(model):
        whole = tree_leaves(model(copied(x)))
        try:
            pieces = [tree_leaves(model(copied(part))) for part in parts]
        except Exception as error:  # noqa: BLE001 - the user's code; whatever it raised is what we tell
            return _small_batch_finding(error, sum(sizes))
        if wrong := _batch_dimension_mistake(whole, pieces, sizes):
            advice = "keep the batch's dimension: squeeze() without one drops it where it is 1"
            return Finding("model", "FAIL", wrong, module_location(model, "")[1], advice, blocks=True)
        if _is_close_by_rows(whole, pieces):
            return _world_size_finding(depends)
        who, where = module_location(model, _first_mixing(model, x, parts))
    what = f"in evaluation the output of a sample depends on the batch that it is in, first in {who}"
    advice = "normalise and compare within a sample: training is cut otherwise on other numbers of processes"
    return Finding("model", "FAIL", what, where, advice)


def _small_batch_finding(error: Exception, samples: int) -> Finding:
    """Describe an exception that some of the samples raise, and all of them together do not."""
    what = (
        f"in evaluation it takes {samples} samples, but not a part of them: {type(error).__name__}: {error}"
    )
    advice = "normalise and compare within a sample: a batch may be a single one"
    return Finding("model", "FAIL", what, user_location(error), advice)


def _batch_dimension_mistake(whole: list[Any], pieces: list[list[Any]], sizes: list[int]) -> str:
    """Describe what is wrong where some parts' outputs, but not all, have a row for each sample."""
    for number, leaf in enumerate(whole):
        lengths = [_rows(piece[number]) for piece in pieces if number < len(piece)]
        right = [length == size for length, size in zip(lengths, sizes, strict=False)]
        if _rows(leaf) == sum(sizes) and any(right) and not all(right):
            size = sizes[right.index(False)]
            return f"its output for {size} of {sum(sizes)} samples has not {size} rows"
    return ""


def _rows(value: Any) -> int:
    return len(value) if isinstance(value, torch.Tensor) and value.ndim else 0


def _first_mixing(model: nn.Module, x: Any, parts: list[Any]) -> str:
    """Find the module after which a sample's value in the batch differs from that in its part."""
    recorders = []
    for batch in (x, *parts):
        with Recorder(model, keep=True) as recorder:
            model(copied(batch))
        recorders.append(recorder)
    whole, *pieces = recorders
    for number, mark in enumerate(whole.marks):
        others = [piece.values[number] for piece in pieces if number < len(piece.values)]
        if len(others) == len(pieces) and not _is_close_by_rows(whole.values[number], others):
            return mark.name
    return ""


def _is_close_by_rows(whole: list[Any], pieces: list[list[Any]]) -> bool:
    """Say whether tensors of a batch are those of its parts, concatenated; what has no rows is ignored."""
    for number, leaf in enumerate(whole):
        others = [piece[number] for piece in pieces if number < len(piece)]
        tensors = [other for other in others if isinstance(other, torch.Tensor) and other.ndim]
        if not isinstance(leaf, torch.Tensor) or not leaf.ndim or len(tensors) < len(pieces):
            continue
        if sum(map(len, tensors)) == len(leaf) and not _equal(leaf, torch.cat(tensors)):
            return False
    return True


def _equal(whole: torch.Tensor, pieces: torch.Tensor) -> bool:
    if whole.shape != pieces.shape or not whole.is_floating_point():
        return torch.equal(whole, pieces)
    tolerance = _TOLERANCE.get(whole.dtype, _HALF_TOLERANCE)
    scale = float(whole.abs().max()) if whole.numel() else 0.0
    return bool(((whole - pieces).abs() <= tolerance * scale).all())


def _world_size_finding(depends: Sequence[str]) -> Finding:
    if not depends:
        return Finding("model", "PASS", "in evaluation no sample's output depends on its batch")
    what = f"it has {' and '.join(depends)}: training depends on the number of processes"
    return Finding("model", "NOTE", f"{what}, evaluation does not")


@contextmanager
def stilled(model: nn.Module, how: str) -> Iterator[None]:
    """Train without what depends on the number of processes: ``modules`` or ``all`` of it."""
    with training_mode(model, training=how != "all"):
        for module in model.modules():
            if isinstance(module, _BatchNorm | _DropoutNd):
                module.eval()
        yield


def check_randomness(
    model: nn.Module, x: Any, draws: StepSeeder, *, keyed: bool = False
) -> tuple[Finding, str]:
    """Check that the same input, weights and seed give the same output, whatever else was drawn.

    Args:
        model: any; its mode, buffers and gradients are left as they were.
        x: a batch.
        draws: seeds torch's generators, as before a step.
        keyed: by logical rank, so that draws do not depend on the number of processes.

    Returns:
        The finding, and what has to be stilled before numbers of processes can be compared: ``modules``, or
        ``all`` where the model draws outside of dropout.
    """
    with training_mode(model, training=True):
        if found := _not_reproducible(model, x, draws):
            return found, "all"
    with stilled(model, "modules"):
        one, other = (_recorded(model, x, draws, step).marks for step in (0, 1))
    if not keyed and first_difference(one, other):
        what = (
            "the model draws random numbers outside of dropout: training depends on the number of processes"
        )
        return Finding("randomness", "NOTE", what), "all"
    what = "the forward pass draws from torch's generators only, or not at all"
    return Finding("randomness", "PASS", what), "modules"


def _not_reproducible(model: nn.Module, x: Any, draws: StepSeeder) -> Finding | None:
    first = _recorded(model, x, draws, 0)
    for generator, name in first.draws.items():
        who, where = module_location(model, name)
        return Finding(
            "randomness",
            "FAIL",
            f"{who} draws from {generator}, which no step seeds",
            where,
            MODEL_SEEDING_HINT,
        )
    attributes = PlainAttributes(model)
    for _ in range(_REPEATS - 1):
        if differs := first_difference(first.marks, _recorded(model, x, draws, 0).marks):
            who, where = module_location(model, differs.name)
            what = f"{who} gives another output for the same input, weights and seed{kept_state(attributes)}"
            return Finding("randomness", "FAIL", what, where, MODEL_SEEDING_HINT)
    return None


def kept_state(attributes: PlainAttributes) -> str:
    """Say what a model has kept in plain attributes since they were looked at, as the end of a sentence."""
    names = attributes.changed()
    return f": it keeps {_some(names)} from one pass to the next" if names else ""


def _recorded(model: nn.Module, x: Any, draws: StepSeeder, step: int) -> Recorder:
    draws.reseed(step)
    with Recorder(model) as recorder, preserved_state(model), torch.no_grad():
        model(copied(x))
    return recorder


def check_unused(at_first: list[str], of_more: list[str]) -> Finding:
    """Note parameters that the loss does not reach: mostly an oversight, unless other samples reach them.

    Args:
        at_first: those that the loss of the first samples does not reach.
        of_more: those of them that the loss of more samples does not reach, either.
    """
    if of_more:
        advice = (
            "use them, remove them, or set requires_grad=False; parts for rare samples may stay as they are"
        )
        return Finding("parameters", "NOTE", f"the loss does not reach {_some(of_more)}", "", advice)
    if at_first:
        what = f"the loss of the first samples leaves out {_some(at_first)}, others reach it: steps may differ in that"
        return Finding("parameters", "PASS", what)
    return Finding("parameters", "PASS", "the loss reaches every parameter")


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")

"""torch's own losses by the contract: over a batch, however it is cut, they give what torch's own mean gives."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...data.common import LockstepError, TrainingError, UsageError, raised
from ...data.samples import describe_value
from .objective import Loss

_CLASSES = {nn.CrossEntropyLoss: functional.cross_entropy, nn.NLLLoss: functional.nll_loss}
_ELEMENTWISE = {
    nn.MSELoss: functional.mse_loss,
    nn.L1Loss: functional.l1_loss,
    nn.SmoothL1Loss: functional.smooth_l1_loss,
    nn.HuberLoss: functional.huber_loss,
    nn.BCELoss: functional.binary_cross_entropy,
    nn.BCEWithLogitsLoss: functional.binary_cross_entropy_with_logits,
    nn.KLDivLoss: functional.kl_div,
    nn.PoissonNLLLoss: functional.poisson_nll_loss,
    nn.SoftMarginLoss: functional.soft_margin_loss,
    nn.HingeEmbeddingLoss: functional.hinge_embedding_loss,
}
_PER_SAMPLE = {
    nn.MultiMarginLoss: functional.multi_margin_loss,
    nn.MultiLabelMarginLoss: functional.multilabel_margin_loss,
    nn.MultiLabelSoftMarginLoss: functional.multilabel_soft_margin_loss,
}
_FORWARD: dict[Any, Any] = {
    vars(kind)["forward"]: name for kind, name in (_CLASSES | _ELEMENTWISE | _PER_SAMPLE).items()
}
_WEIGHTED_MEANS = (functional.mse_loss, functional.l1_loss, functional.huber_loss)
"""Their weights also divide torch's mean."""
_TENSORS = ("weight", "pos_weight")
"""Arguments that a config writes as lists."""
DEFAULT_IGNORED = -100
"""What torch's class losses leave out unless they are given another label."""


def as_class_indices(target: Any) -> Any:
    """Make whole numbers of any type the int64 that torch compares scores with; all else is returned as it is."""
    if not isinstance(target, torch.Tensor) or target.is_floating_point() or target.is_complex():
        return target
    return target.long()


def sum_of_kept(losses: torch.Tensor, mass: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a sum and its weight: what was left out of the first has 0 in both."""
    return losses.sum(), mass.sum(dtype=torch.float64)


def sum_of_weighted(
    losses: torch.Tensor, target: torch.Tensor, kept: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a sum and its weight, where each class has a weight of its own.

    Args:
        losses: weighted already, and 0 where a sample is left out.
        target: class indices.
        kept: which samples are not left out.
        weight: of each class.
    """
    return sum_of_kept(losses, weight[torch.where(kept, target, 0)] * kept)


class _ClassLoss:
    """Cross-entropy and the like; labels that are left out count neither in the sum nor in the weight."""

    def __init__(self, name: str, call: Loss, weight: torch.Tensor | None, ignore_index: int) -> None:
        self._name = name
        self._call = call
        self._weight = weight
        self._ignored = ignore_index

    def __call__(self, output: Any, target: Any) -> Any:
        refuse_other_classes(self._name, output, target)
        target = as_class_indices(target)
        losses = self._call(output, target)
        if target.is_floating_point():  # the probability of each class
            return losses.reshape(len(losses), -1).mean(1)
        kept = target != self._ignored
        if self._weight is None:
            return sum_of_kept(losses, kept)
        weight = self._weight = self._weight.to(losses.device)
        return sum_of_weighted(losses, target, kept, weight)


class _ElementwiseLoss:
    """A loss of each number of the output, of which a sample's is the mean, or for ``batchmean`` the sum."""

    def __init__(self, call: Loss, name: str, *, summed: bool) -> None:
        self._call = call
        self._name = name
        self._summed = summed

    def __call__(self, output: Any, target: Any) -> torch.Tensor:
        refuse_other_shape(self._name, output, target)
        whole = not target.is_floating_point() and not target.is_complex()
        losses = self._call(output, target.to(output.dtype) if whole else target).reshape(len(output), -1)
        summed: torch.Tensor = losses.sum(1) if self._summed else losses.mean(1)
        return summed


def refuse_no_tensors(name: str, output: Any, target: Any) -> None:
    """Refuse outputs and targets that only a function of the user's own can compare.

    Raises:
        TrainingError: one of them is not a tensor.
    """
    if isinstance(target, list | tuple) and target and all(isinstance(label, str) for label in target):
        raise TrainingError(
            f"{name}: the targets are strings, such as {target[0]!r}",
            "return numbers from __getitem__, of a class its index: CLASSES.index(label)",
        )
    for what, value in (("the model returned", output), ("the targets are", target)):
        if not isinstance(value, torch.Tensor):
            raise TrainingError(
                f"{name}: {what} {describe_value(value)}, not a tensor",
                "write a function of your own that takes out what it compares",
            )


def refuse_other_shape(name: str, output: Any, target: Any) -> None:
    """Refuse targets that are not of the output's shape.

    Raises:
        TrainingError: broadcasting would compare every output with every target.
    """
    refuse_no_tensors(name, output, target)
    if output.shape != target.shape:
        raise TrainingError(
            f"{name}: the model returned the shape {tuple(output.shape)}, the targets have {tuple(target.shape)}",
            "make the model return one value for each component of the target",
        )


def refuse_other_classes(name: str, output: Any, target: Any) -> None:
    """Refuse targets that are neither class indices of scores [B, C, ...] nor the probability of each class.

    Args:
        name: of the loss.
        output: scores, if it is as it should be.
        target: whole numbers [B, ...], or fractions [B, C, ...].

    Raises:
        TrainingError: they are not.
    """
    refuse_no_tensors(name, output, target)
    scores, given = tuple(output.shape), tuple(target.shape)
    if len(scores) <= 1:
        raise TrainingError(
            f"{name}: the model returned the shape {scores}, not scores of (samples, classes)",
            "return a score for each class of each sample; of a quantity, the loss is mse",
        )
    if target.is_floating_point():
        if given != scores:
            raise TrainingError(
                f"{name}: the targets are {describe_value(target)}, which are no class indices",
                "return a whole number for each sample: int(label); of a quantity, the loss is mse",
            )
    elif given != (indices := scores[:1] + scores[2:]):
        raise TrainingError(
            f"{name}: the targets are {describe_value(target)}, and class indices for scores of {list(scores)} have"
            f" the shape {list(indices)}",
            "return a class index for each sample, a number and no list of one, and of one-hot codes"
            " target.argmax(); scores have the classes second",
        )


class _Placed:
    """A call whose tensors are of the type, and on the device, of what it is called with.

    They stay on the device: copying them there would make each step wait.
    """

    def __init__(self, name: str, call: Callable[..., Any], tensors: Mapping[str, torch.Tensor]) -> None:
        self._name = name
        self._call = call
        self._tensors = dict(tensors)

    def __call__(self, output: torch.Tensor, target: Any) -> Any:
        refuse_no_tensors(self._name, output, target)
        self._tensors = {name: value.to(output.device) for name, value in self._tensors.items()}
        placed = {name: value.to(output.dtype) for name, value in self._tensors.items()}
        return self._call(output, target, **placed)


def adapt_loss(found: Any, use: str, args: Mapping[str, Any]) -> Loss:
    """Make a loss of what ``loss.use`` names outside the built-in ones, a function, a class or a module.

    Args:
        found: of a class, an instance is made. Where there is a ``reduction``, it is ``none``, unless it is given.
        use: what names it.
        args: of the function, or of the class.

    Raises:
        UsageError: torch's loss does not take these arguments, or is to be a sum.
        TrainingError: the class cannot be instantiated, or has parameters that nothing would train.
    """
    function = _torch_function(found)
    return _own_loss(found, use, args) if function is None else _torch_loss(function, found, use, args)


def _torch_function(found: Any) -> Any:
    """Find torch's function behind a function, a class or a module; None where it is not torch's."""
    if found in _FORWARD.values():
        return found
    kind = found if isinstance(found, type) else type(found)
    return _FORWARD.get(getattr(kind, "forward", None))


def _torch_loss(function: Callable[..., Any], found: Any, use: str, given: Mapping[str, Any]) -> Loss:
    module = isinstance(found, nn.Module)
    args = {**_attributes(function, found), **given} if module else dict(given)
    _refuse_arguments(use, function if module else found, args)
    reduction = args.pop("reduction", "mean")
    _refuse_reduction(use, reduction, function)
    tensors = {name: torch.as_tensor(args.pop(name)) for name in _TENSORS if args.get(name) is not None}
    call = _Placed(function.__name__, functools.partial(function, reduction="none", **args), tensors)
    if function in _CLASSES.values():
        return _ClassLoss(
            function.__name__, call, tensors.get("weight"), args.get("ignore_index", DEFAULT_IGNORED)
        )
    if function in _ELEMENTWISE.values():
        return _ElementwiseLoss(call, function.__name__, summed=reduction == "batchmean")
    return call


def _attributes(function: Callable[..., Any], module: nn.Module) -> dict[str, Any]:
    """Return the arguments that one of torch's losses was made with."""
    names = inspect.signature(function).parameters
    return {name: getattr(module, name) for name in names if hasattr(module, name)}


def _refuse_arguments(use: str, found: Any, args: Mapping[str, Any]) -> None:
    for name in args.keys() & {"size_average", "reduce"}:
        raise UsageError(
            f"loss.args.{name}: {use} has `reduction` instead", "leave it out: the mean is taken"
        )
    if args.get("weight") is not None and found in _WEIGHTED_MEANS:
        raise UsageError(
            f"loss.args.weight: {use} weighs numbers of a batch by their place in it",
            "write a loss of your own that returns (sum, weight)",
        )
    try:
        inspect.signature(found).bind(*(() if isinstance(found, type) else (None, None)), **args)
    except TypeError as error:
        raise UsageError(f"loss.args: {use}: {error}", "correct loss.args") from error


def _refuse_reduction(use: str, reduction: str, function: Callable[..., Any]) -> None:
    known = ("none", "mean", "batchmean") if function is functional.kl_div else ("none", "mean")
    if reduction not in known:
        raise UsageError(
            f"loss.args.reduction = {reduction}: the loss of a batch is the mean over its samples, of {use} as well",
            "leave it out; of a sum, the gradient is that of the mean times the samples: raise optimizer.lr instead",
        )


def _own_loss(found: Any, use: str, args: Mapping[str, Any]) -> Loss:
    """Bind the arguments of a user's function, or make the instance of a class."""
    if _has_reduction(found):
        args = {"reduction": "none", **args}
    if not isinstance(found, type):
        loss = functools.partial(found, **args) if args else found
    else:
        try:
            loss = found(**args)
        except LockstepError:
            raise
        except Exception as error:
            raise raised(f"loss.use = {use}: making an instance raised", error) from error
    return _checked_module(loss, use)


def _has_reduction(found: Any) -> bool:
    """Tell whether a function or a class takes a ``reduction`` that is something else unless it is given."""
    try:
        parameter = inspect.signature(found).parameters.get("reduction")
    except (TypeError, ValueError):  # written in C
        return False
    return parameter is not None and parameter.default not in ("none", None)


def _checked_module(loss: Any, use: str) -> Loss:
    """Refuse what cannot be called, and a module that would have to be trained."""
    if not callable(loss):
        raise TrainingError(
            f"loss.use = {use}: an instance cannot be called",
            "give it a method __call__(self, output, target)",
        )
    trained = [name for name, _ in loss.named_parameters()] if isinstance(loss, nn.Module) else []
    if trained:
        raise TrainingError(
            f"loss.use = {use} has parameters that nothing trains: {', '.join(trained[:3])}",
            "make them part of the model, or buffers if they are constants",
        )
    return loss  # type: ignore[no-any-return]

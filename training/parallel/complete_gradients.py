"""FSDP sends the gradients of a block together, those that it has: ranks have to have the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from ...data.common import TrainingError
from ..tensors import is_fsdp, plain_name

_NAMED = 5  # parameters in a message


def expect_gradients(model: nn.Module, units: Iterable[nn.Module]) -> None:
    """Have units refuse to send gradients where this rank's backward passes have left one of their parameters out.

    Ranks would send each other the gradients of different parameters: FSDP packs those that it has.

    Args:
        model: with the names.
        units: each run once in a pass: of others, each run sends gradients.
    """
    names = {id(parameter): plain_name(name) for name, parameter in model.named_parameters()}
    for unit in units:
        for group in _parameter_groups(unit):
            group.post_backward = _checked(group, names)


def _parameter_groups(unit: Any) -> list[Any]:
    """Return what a unit sends together; torch 2.11 has one for each unit."""
    state = unit._get_fsdp_state() if is_fsdp(unit) else None  # noqa: SLF001 - torch has no other way to ask
    one = getattr(state, "_fsdp_param_group", None)
    return getattr(state, "_fsdp_param_groups", None) or ([one] if one is not None else [])


def _checked(group: Any, names: dict[int, str]) -> Callable[..., None]:
    send = group.post_backward

    def post_backward(*given: Any) -> None:
        if group.reduce_grads:
            refuse_left_out(
                [names.get(id(p.sharded_param), "") for p in group.fsdp_params if not _reached(p)]
            )
        send(*given)

    return post_backward


def _reached(parameter: Any) -> bool:
    """Say whether one of FSDP's parameters has a gradient to send, or is to have none."""
    if not parameter.sharded_param.requires_grad or parameter.unsharded_accumulated_grad is not None:
        return True
    unsharded = getattr(parameter, "_unsharded_param", None)
    return unsharded is not None and unsharded.grad is not None


def refuse_left_out(names: list[str]) -> None:
    """Refuse a step that leaves parameters out, if there are any."""
    if names:
        raise TrainingError(
            f"train.strategy=fsdp: the loss of this process did not reach {', '.join(names[:_NAMED])}; each process"
            " sends the gradients of a whole block in every step",
            "reach them in every step (0 * parameter.sum() in the loss does), or use train.strategy=ddp",
        )

"""``model.checkpointing``: modules whose inner values are computed again in the backward pass, and not kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...data.common import UsageError
from ..tensors import plain_name

_NAMED = 4  # modules in a note


def recompute(model: nn.Module, pattern: str) -> list[str]:
    """Have the modules recomputed whose name the pattern finds, the outermost of those that lie in each other.

    The numbers stay the same to the bit: draws are repeated, and buffers do not learn twice.

    Returns:
        What is recomputed, for users.

    Raises:
        UsageError: no module has such a name.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        plain = plain_name(name)
        inside = any(plain.startswith(f"{outer}.") for outer in found)
        if plain and not inside and re.search(pattern, plain):
            found[plain] = module
    if not found:
        names = [plain_name(name) for name, _ in model.named_children()]
        raise UsageError(
            f"model.checkpointing = {pattern}: no module has such a name",
            f"the model's parts are {', '.join(names) or 'none'}; the pattern is a regular expression",
        )
    for module in {id(module): module for module in found.values()}.values():
        module.forward = _recomputed(module)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    names = [*found][:_NAMED]
    return [f"model.checkpointing: computed again in the backward pass are {', '.join(names)}{more}"]


def _recomputed(module: nn.Module) -> Callable[..., Any]:
    forward = module.forward

    @wraps(forward)
    def recomputed(*inputs: Any, **named: Any) -> Any:
        if not (module.training and torch.is_grad_enabled()):
            return forward(*inputs, **named)
        contexts = lambda: (nullcontext(), _unlearning(module))  # noqa: E731 - what torch asks for
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **named)

    return recomputed


def _unlearning(module: nn.Module) -> AbstractContextManager[None]:
    return _buffers_kept(list(module.buffers()))


@contextmanager
def _buffers_kept(buffers: list[torch.Tensor]) -> Iterator[None]:
    """Give buffers their values again, unseen by autograd, which may have kept them for this very pass."""
    before = [buffer.detach().clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.data.copy_(value)

"""``launch check``: what a model did, call by call, as hashes: where two recordings part, the culprit is named."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ...data.common import definition_location
from ...data.samples import as_bytes

_UNSEEDED_GENERATORS: dict[str, Callable[[], Any]] = {
    "Python's random": random.getstate,
    "NumPy's generator": lambda: np.random.get_state()[1:3],  # type: ignore[index]  # noqa: NPY002
}


@dataclass(frozen=True)
class TensorHash:
    """One thing that happened in a step."""

    step: int
    kind: str
    """``sample``, ``enter``, ``leave``, ``gradient`` or ``draw``."""
    name: str
    """The sample, the parameter, or the module that is to blame if this mark is the first that differs."""
    digest: str
    part: int = -1
    """The logical rank that it happened in, or the position of a sample; -1 for what is of the whole step."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return asdict(self)


class Recorder(AbstractContextManager["Recorder"]):
    """Listens to the modules of a model while it is entered.

    Args:
        model: its modules are hooked.
        keep: remember the values themselves, too.
        part: says which logical rank runs.
    """

    def __init__(
        self, model: nn.Module, *, keep: bool = False, part: Callable[[], int | None] = lambda: None
    ) -> None:
        self._model = model
        self._keep = keep
        self._part = part
        self._handles: list[Any] = []
        self._open: list[str] = []
        self._states: dict[str, str] = {}
        self.marks: list[TensorHash] = []
        self.values: list[list[Any]] = []
        """Of each mark, where they are kept."""
        self.draws: dict[str, str] = {}
        """Generator that no step seeds, to the module that drew from it."""
        self.step = 0

    def __enter__(self) -> Self:
        for name, module in self._model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._entered(name), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._left(name)))
        self._states = {name: _hash([repr(state())]) for name, state in _UNSEEDED_GENERATORS.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def note(self, kind: str, name: str, values: Any, part: int | None = None) -> None:
        """Add a mark."""
        leaves = tree_leaves(values)
        part = self._part() if part is None else part
        self.marks.append(TensorHash(self.step, kind, name, _hash(leaves), -1 if part is None else part))
        if self._keep:
            self.values.append([x.clone() if isinstance(x, torch.Tensor) else x for x in leaves])

    def _entered(self, name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            # What a module is given is its parent's doing: what came before it was equal.
            self._detect_draws()
            self.note("enter", self._open[-1] if self._open else name, (args, kwargs))
            self._open.append(name)

        return hook

    def _left(self, name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            self._detect_draws()
            self.note("leave", name, output)
            while self._open and self._open.pop() != name:  # a forward that raised left its name behind
                pass

        return hook

    def _detect_draws(self) -> None:
        """Detect draws: a generator that moved since the last mark was used by the module that is running."""
        for name, state in _UNSEEDED_GENERATORS.items():
            now = _hash([repr(state())])
            if now != self._states[name] and self._open:
                self.draws.setdefault(name, self._open[-1])
            self._states[name] = now


def _hash(values: Iterable[Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            with suppress(RuntimeError):  # within torch.func.vmap, a tensor has no bytes of its own
                digest.update(as_bytes(value).cpu().numpy().tobytes())
        elif isinstance(value, str | int | float | bool | None):
            digest.update(repr(value).encode())
    return digest.hexdigest()


def first_difference(one: list[TensorHash], other: list[TensorHash]) -> TensorHash | None:
    """Find the first mark of ``other`` that ``one`` does not have; None where they are equal."""
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            return theirs
    longer = max(one, other, key=len)
    return None if len(one) == len(other) else longer[min(len(one), len(other))]


def module_location(model: nn.Module, name: str) -> tuple[str, str]:
    """Return a module in words, and where the user's code of its forward begins."""
    module = model.get_submodule(name)
    said = f"{type(module).__name__} ({name or 'the whole model'})"
    return said, definition_location(type(module).forward)

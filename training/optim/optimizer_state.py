"""What an optimizer keeps between two steps, as tensors and plain values, and back to the bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ...data.common import UsageError
from ..tensors import AnyTensor, cut_like, read_whole
from .plain_tree import Tensors, decoded, encoded, tensor_keys

_UNCHANGED = ("params", "param_names", "foreach", "fused", "capturable", "differentiable", "maximize")
"""Of a group, what no step changes."""


class OptimizerState:
    """The state of an optimizer: of each parameter, of its groups, of the whole.

    An entry of a parameter that is a tensor is saved as ``parameter/entry``, as it always was. Whatever else there is
    becomes a tree of plain values, which names the tensors in it.

    Args:
        optimizer: as it was built, before its first step.
        names: of its parameters, by ``id``.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, names: dict[int, str]) -> None:
        self._optimizer = optimizer
        parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
        self._parameters = {names[id(parameter)]: parameter for parameter in parameters}
        self._names = {id(parameter): names[id(parameter)] for parameter in parameters}
        # Torch's own change no group, and their state_dict has nothing more.
        self._is_torchs = type(optimizer).__module__.partition(".")[0] == "torch"
        self._as_built = self._groups({})

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the tensors, uncopied, and what else there is, which is mostly nothing.

        Raises:
            UsageError: something of it can be neither.
        """
        tensors: Tensors = {}
        plain: dict[str, Any] = {}
        entries: dict[Any, Any] = self._optimizer.state  # torch types parameters only
        for key, state in entries.items():
            if isinstance(key, torch.Tensor):
                self._save_parameter(self._names[id(key)], state, tensors, plain)
            else:
                tree = encoded({key: state}, "#shared", tensors, f"state[{key!r}]")
                plain["shared"] = {"dict": [*plain.get("shared", {}).get("dict", []), *tree["dict"]]}
        if not self._is_torchs:
            self._save_whole(tensors, plain)
        return tensors, plain

    def _save_parameter(
        self, name: str, state: dict[str, Any], tensors: Tensors, plain: dict[str, Any]
    ) -> None:
        for entry, value in state.items():
            tree = encoded(value, f"{name}/{entry}", tensors, f"{entry} of {name}")
            if not isinstance(value, torch.Tensor):
                plain.setdefault("parameters", {}).setdefault(name, {})[entry] = tree
            elif value.device != self._parameters[name].device:
                plain.setdefault("on_host", []).append(f"{name}/{entry}")

    def _save_whole(self, tensors: Tensors, plain: dict[str, Any]) -> None:
        """Save the settings of groups that have changed, and what ``state_dict`` has besides the usual."""
        for at, (now, built) in enumerate(zip(self._groups(tensors), self._as_built, strict=True)):
            changed = {
                key: tree
                for key, tree in now.items()
                if key not in built or built[key] != tree or any(tensor_keys(tree))
            }
            if changed:
                plain.setdefault("groups", {})[str(at)] = changed
        more = {
            key: value
            for key, value in self._optimizer.state_dict().items()
            if key not in ("state", "param_groups")
        }
        if more:
            plain["more"] = encoded(more, "#more", tensors, "its state_dict")

    def _groups(self, tensors: Tensors) -> list[dict[str, Any]]:
        return [
            {
                key: encoded(value, f"#groups/{at}/{key}", tensors, f"{key} of its group {at}")
                for key, value in group.items()
                if key not in _UNCHANGED
            }
            for at, group in enumerate([] if self._is_torchs else self._optimizer.param_groups)
        ]

    def load(
        self, tensors: Mapping[str, AnyTensor], plain: dict[str, Any], name_now: Callable[[str], str] = str
    ) -> None:
        """Continue from ``save``.

        Args:
            tensors: by their names of now.
            plain: with the names of then.
            name_now: makes the name of now from one of then.

        Raises:
            UsageError: it is of other parameters.
        """
        in_trees = {name_now(key) for key in tensor_keys(plain)}
        on_host = {name_now(key) for key in plain.get("on_host", [])} | self._counts_on_host(tensors)
        for key, value in tensors.items():
            name, _, entry = key.rpartition("/")
            if key not in in_trees:
                parameter = self._parameter(name)
                placed = read_whole(value).clone() if key in on_host else _beside(parameter, value)
                self._optimizer.state[parameter][entry] = placed
        for name, entries in plain.get("parameters", {}).items():
            parameter = self._parameter(name_now(name))
            own = _placed(tensors, name_now, parameter)
            self._optimizer.state[parameter] |= {entry: decoded(tree, own) for entry, tree in entries.items()}
        self._load_whole(plain, _placed(tensors, name_now, next(iter(self._parameters.values()))))

    def _load_whole(self, plain: dict[str, Any], place: Callable[[str], torch.Tensor]) -> None:
        self._optimizer.state.update(decoded(plain.get("shared", {"dict": []}), place))
        for at, changed in plain.get("groups", {}).items():
            self._optimizer.param_groups[int(at)] |= {
                key: decoded(tree, place) for key, tree in changed.items()
            }
        if "more" in plain:  # load_state_dict may round the rest
            exact = {key: dict(state) for key, state in self._optimizer.state.items()}
            self._optimizer.load_state_dict({**self._optimizer.state_dict(), **decoded(plain["more"], place)})
            for key, state in exact.items():
                self._optimizer.state[key].update(state)

    def owns(self, key: str) -> bool:
        """Tell whether a tensor is of one of its parameters."""
        parts = key.split("/")
        return any("/".join(parts[:end]) in self._parameters for end in range(1, len(parts)))

    def _counts_on_host(self, tensors: Mapping[str, AnyTensor]) -> set[str]:
        """List the counts of steps that torch expects on the host, where a step reads them."""
        groups = self._optimizer.param_groups
        fused = [
            p for group in groups if group.get("fused") or group.get("capturable") for p in group["params"]
        ]
        on_device = {self._names[id(parameter)] for parameter in fused}
        parts = [(key, *key.rpartition("/")[::2]) for key in tensors]
        return {key for key, name, entry in parts if entry == "step" and name not in on_device}

    def _parameter(self, name: str) -> nn.Parameter:
        found = self._parameters.get(name)
        if found is None:
            raise UsageError(
                f"the checkpoint is of another model: {name} was trained there, and is not here",
                "use the model that it was written with, or start a new run from its weights with model.weights",
            )
        return found


def _placed(
    tensors: Mapping[str, AnyTensor], name_now: Callable[[str], str], like: torch.Tensor
) -> Callable[[str], torch.Tensor]:
    return lambda key: _beside(like, tensors[name_now(key)])


def _beside(parameter: torch.Tensor, value: AnyTensor) -> torch.Tensor:
    """Move a tensor to the parameter's device and layout; a fused optimizer keeps its step count there, too.

    A fused kernel walks through memory: momenta of a channels_last weight in another layout belong to other elements.
    """
    if value.shape == parameter.shape:
        placed = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
        return placed.copy_(cut_like(parameter, value))
    return read_whole(value).to(parameter.device, copy=True)

"""A metric that is an object with states, as those of torchmetrics are: each state is reduced as it declares itself."""

# ruff: noqa: SLF001 - torchmetrics declares there what the states of a metric are
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from safetensors.torch import load, save

from ...data.common import LockstepError, UsageError, raised
from ..rank import Group
from .additive_metric import as_numbers

_EXACT = {"sum", "max", "min", "cat"}
_OPERATIONS: dict[str, Callable[..., torch.Tensor]] = {"sum": torch.sum, "max": torch.amax, "min": torch.amin}
_LIST = "list"
"""The reduction of a list of tensors that declares none: one after the other, in the order of the samples."""


def is_module_metric(found: Any) -> bool:
    """Tell whether an object has what torchmetrics gives a metric."""
    parts = ("update", "compute", "reset", "_defaults", "_reductions")
    return all(hasattr(found, part) for part in parts)


class ModuleMetric:
    """A metric with ``update``, ``compute``, ``reset`` and declared states; updated with each batch of this rank.

    Args:
        name: in the record, after ``val/``.
        metric: the object.
        device: where its states are.

    Raises:
        UsageError: a state is reduced in a way that is not exact for any number of processes.
    """

    width = 0
    """It has no row: its states are not all sums."""
    kept = False
    is_mean = False

    def __init__(self, name: str, metric: Any, device: torch.device) -> None:
        self.name = name
        self._metric = metric
        self._states = dict(_exact_states(name, metric))
        metric.sync_on_compute = metric._to_sync = False  # else torchmetrics itself would reduce
        for state, default in metric._defaults.items():
            if isinstance(default, torch.Tensor) and default.is_floating_point():
                metric._defaults[state] = default.double()
        if hasattr(metric, "to"):
            metric.to(device)
        metric.reset()

    def __call__(self, output: Any, target: Any) -> Any:
        """Return what the metric says of one batch alone."""
        self.reset()
        self.row(output, target)
        found = self._metric.compute()
        self.reset()
        return found

    @property
    def reductions(self) -> Mapping[str, str]:
        """How each state is reduced."""
        return self._states

    def reset(self) -> None:
        """Forget all batches."""
        self._metric.reset()

    def row(self, output: Any, target: Any) -> torch.Tensor:
        """Update the states; return an empty row."""
        try:
            self._metric.update(output, target)
        except LockstepError:
            raise
        except Exception as error:
            raise raised(f"metric {self.name}: update raised", error) from error
        return torch.empty(0, dtype=torch.float64, device=getattr(output, "device", None))

    def tree(self, totals: torch.Tensor) -> Any:
        """Return what is not a structure: the states are the metric's own."""
        return totals

    def reduce(self, group: Group) -> None:
        """Bring together the states of all ranks, in the order of the samples. Collective."""
        if group.world_size == 1:
            return
        own = {name: getattr(self._metric, name) for name in self._states}
        everyone = [_decoded(payload, self._states) for payload in group.gather_bytes(_encoded(own))]
        for name, reduction in self._states.items():
            parts = [one[name] for one in everyone]
            setattr(self._metric, name, _reduced(parts, reduction, group.device))
        self._metric._computed = None
        self._metric._update_count = 1  # a rank without a batch has computed nothing wrong

    def numbers(self, totals: torch.Tensor | None = None) -> dict[str, float]:  # noqa: ARG002 - of other metrics
        """Compute, from what ``reduce`` has brought together; return what is logged, by its name after ``val/``."""
        try:
            found = self._metric.compute()
        except LockstepError:
            raise
        except Exception as error:
            raise raised(f"metric {self.name}: compute raised", error) from error
        return as_numbers(self.name, found)


def _exact_states(name: str, metric: Any) -> list[tuple[str, str]]:
    nested = (
        [child for child in metric.children() if is_module_metric(child)]
        if hasattr(metric, "children")
        else []
    )
    if nested or not metric._reductions:
        raise UsageError(
            f"metrics: {name} is made of other metrics, or of no state",
            "name each of those metrics by itself",
        )
    return [
        (state, _reduction(name, state, declared, metric._defaults[state]))
        for state, declared in metric._reductions.items()
    ]


def _reduction(name: str, state: str, declared: Callable[..., Any] | str | None, default: Any) -> str:
    said = declared if isinstance(declared, str) else getattr(declared, "__name__", "")
    found = said.removeprefix("dim_zero_")
    if declared is None and isinstance(default, list):
        return _LIST
    if found in _EXACT:
        return found
    why = (
        "the mean of ranks is not that of samples" if found == "mean" else "nobody knows whether it is exact"
    )
    raise UsageError(
        f"metrics: {name} reduces its state {state!r} by {found or 'nothing'}: {why}",
        "use a metric whose states are sum, max, min or cat, or a function with statistics and a finish",
    )


def _encoded(states: Mapping[str, Any]) -> bytes:
    """Encode tensors, and lists of tensors, which are named by their places."""
    flat: dict[str, torch.Tensor] = {}
    for name, value in states.items():
        if isinstance(value, list):
            flat |= {f"{name}/{place:09d}": one for place, one in enumerate(value)}
        else:
            flat[name] = value
    return save({name: value.detach().cpu().contiguous().clone() for name, value in flat.items()})


def _decoded(payload: bytes, names: Iterable[str]) -> dict[str, Any]:
    flat = load(payload)
    return {
        name: flat[name]
        if name in flat
        else [flat[key] for key in sorted(flat) if key.startswith(f"{name}/")]
        for name in names
    }


def _reduced(parts: list[Any], reduction: str, device: torch.device) -> Any:
    """Reduce the ranks' values of a state, in the order of the ranks, which is that of the samples."""
    if reduction in _OPERATIONS:
        return _OPERATIONS[reduction](torch.stack(parts), dim=0).to(device)
    listed = [one for part in parts for one in (part if isinstance(part, list) else [part])]
    if reduction == _LIST or isinstance(parts[0], list):
        return [one.to(device) for one in listed]
    return torch.cat([torch.atleast_1d(one) for one in listed]).to(device)

"""Whether targets are what the loss compares outputs with, as far as names and types tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...data.config import DatasetInfo, PartLook

if TYPE_CHECKING:  # pydantic takes 0.1 s
    from ...training.config import LossConfig

_CLASS_LOSSES = frozenset(("cross_entropy", "CrossEntropyLoss", "nll_loss", "NLLLoss"))
_REGRESSION_LOSSES = frozenset((
    "mse", "mse_loss", "MSELoss", "l1_loss", "L1Loss", "smooth_l1_loss", "SmoothL1Loss", "huber_loss", "HuberLoss",
))  # fmt: skip
_WHOLE = ("int", "uint")
_IGNORED = -100
_COUNT = "return (sum, number of the others), or they count in the mean with a loss of 0"


def loss_notes(section: LossConfig | None, facts: DatasetInfo) -> list[str]:
    """Note targets that another kind of loss is for.

    Args:
        section: ``loss:``; None where a step is trained.
        facts: of the data.
    """
    target = facts.look.train.target if facts.look else None
    if target is None or section is None:
        return []
    loss = section.use
    name = loss.rpartition(":")[2].rpartition(".")[2]
    if ":" in loss and name not in _CLASS_LOSSES and target.low == _IGNORED and _is_whole(target):
        return [f"some targets are {_IGNORED}, which torch's cross_entropy leaves out: {_COUNT}"]
    types = " or ".join(sorted({kind.type for kind in target.kinds}))
    if name in _CLASS_LOSSES and all(_is_quantity(kind.type) and not kind.shape for kind in target.kinds):
        return [f"targets are {types} numbers, and {name} compares with class indices; mse is for quantities"]
    whole = _is_whole(target)
    if name in _REGRESSION_LOSSES and whole:
        return [f"targets are {types}, and {name} is for quantities; for classes there is cross_entropy"]
    if name in _CLASS_LOSSES and whole and not facts.train.class_counts:
        return _gap_notes(target, name)
    return []


def _is_whole(target: PartLook) -> bool:
    return all(kind.type.startswith(_WHOLE) for kind in target.kinds)


def _is_quantity(type_: str) -> bool:
    return type_.startswith(("float", "bfloat"))


def _gap_notes(target: PartLook, name: str) -> list[str]:
    """Note labels that are not class indices by what was seen of them: ids and years leave most indices unused."""
    seen, high = len(target.labels), target.high
    if not seen or high is None or high + 1 <= 10 * seen:
        return []
    labels = f"{seen:,} different labels were seen, and the largest is {high:,.0f}"
    return [f"{labels}: {name} takes it for one of {high + 1:,.0f} classes"]

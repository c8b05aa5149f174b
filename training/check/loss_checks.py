"""``launch check``: are losses and metrics sums over samples? What a batch gives, its parts must give together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from ...data.common import LockstepError, TrainingError, definition_location, user_location
from ..config import RunConfig
from ..losses import Loss, sum_loss, sum_metric
from ..metrics import AdditiveMetric, Metric, ModuleMetric
from .finding import Finding
from .metric_checks import check_module, check_statistics

FIRST_PART_SIZES = (1, 2)  # samples of the first parts of a batch; the rest is the third
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_HALF_TOLERANCE = 3e-2  # of the half types
_LOSS_ADVICE = (
    "return one loss per sample (reduction='none'), or (sum, weight): means of parts do not average exactly"
)
_METRIC_ADVICE = "return (sum, count): a mean of means is wrong as soon as batches differ in size"


@dataclass(frozen=True)
class Cut:
    """One batch, whole and in parts, and what the model might have said to it."""

    outputs: list[tuple[Any, list[Any]]]
    """Candidates: the output for the whole batch, and for each part."""
    target: Any
    targets: list[Any]
    part_sizes: list[int]
    """Samples of each part."""

    @property
    def size(self) -> int:
        """Return the number of samples of the whole batch."""
        return sum(self.part_sizes)

    @property
    def sizes(self) -> str:
        """Return the sizes of the parts, in words."""
        *first, last = map(str, self.part_sizes)
        return f"{', '.join(first)} and {last}"


def split_outputs(output: Any, target: Any, sizes: list[int]) -> list[tuple[Any, list[Any]]]:
    """Split the model's output and those of made-up models: some mistakes hide where all outputs are alike."""
    if not has_rows(output, sum(sizes)):
        return []
    generator = torch.Generator().manual_seed(0)
    candidates = [output, tree_map(lambda leaf: _perturbed(leaf, generator), output)]
    if right := _right_scores(output, target):
        candidates.append(right[0])
    return [(candidate, split(candidate, sizes)) for candidate in candidates]


def has_rows(value: Any, count: int) -> bool:
    """Say whether every leaf of ``value`` is a tensor with a row for each of ``count`` samples."""
    return all(
        isinstance(leaf, torch.Tensor) and leaf.ndim and len(leaf) == count for leaf in tree_leaves(value)
    )


def split(value: Any, sizes: list[int]) -> list[Any]:
    """Split every tensor in ``value`` along its first dimension."""
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [_rows(value, start, start + size) for start, size in zip(starts, sizes, strict=True)]


def _rows(value: Any, start: int, stop: int) -> Any:
    return tree_map(
        lambda leaf: leaf[start:stop] if isinstance(leaf, torch.Tensor) and leaf.ndim else leaf, value
    )


def _perturbed(leaf: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Multiply every number by 0.5 to 1, so that a probability stays one; zeros become 0 to 0.5."""
    if not leaf.is_floating_point():
        return leaf
    draw = torch.rand(leaf.shape, generator=generator, dtype=torch.float64).to(leaf.device, leaf.dtype)
    return torch.where(leaf == 0, draw / 2, leaf * (0.5 + draw / 2))


def _right_scores(output: Any, target: Any) -> list[torch.Tensor]:
    """Return the scores of a model that is always right, where the target is a class of each sample."""
    if not isinstance(output, torch.Tensor) or not isinstance(target, torch.Tensor):
        return []
    classes = output.ndim == 2 and target.ndim == 1 and target.dtype == torch.int64  # noqa: PLR2004
    if not classes or not 0 <= int(target.min()) <= int(target.max()) < output.shape[1]:
        return []
    return [torch.nn.functional.one_hot(target, output.shape[1]).to(output.dtype)]


def check_loss(loss: Loss, cut: Cut) -> Finding:
    """Check whether the loss of a batch is the sum of those of its parts."""
    name = definition_location(loss)
    try:
        for output, parts in cut.outputs:
            if wrong := _loss_mistake(loss, cut, output, parts):
                return Finding("loss", "FAIL", wrong, name, _LOSS_ADVICE)
    except LockstepError as error:
        return Finding("loss", "FAIL", error.message, name, error.hint or _LOSS_ADVICE, blocks=True)
    except Exception as error:  # noqa: BLE001 - the user's code; whatever it raised is what we tell
        return _exception_finding("loss", error)
    kind = (
        "one value per sample"
        if isinstance(loss(cut.outputs[0][0], cut.target), torch.Tensor)
        else "(sum, weight)"
    )
    return Finding("loss", "PASS", f"{kind}; a batch of {cut.size} equals its parts of {cut.sizes}")


def _loss_mistake(loss: Loss, cut: Cut, output: Any, parts: list[Any]) -> str | None:
    whole, again = (loss(output, cut.target) for _ in range(2))
    if not _equal(whole, again):
        return "the loss gives another value for the same output and target on a second call"
    pieces = [loss(part, target) for part, target in zip(parts, cut.targets, strict=True)]
    summed, weight = sum_loss(whole, cut.size)
    totals = [sum_loss(piece, size) for piece, size in zip(pieces, cut.part_sizes, strict=True)]
    if weight is None and all(isinstance(piece, torch.Tensor) for piece in pieces):
        return _sample_mistake(whole, torch.cat(pieces), cut)
    if weight is None or any(part is None for _, part in totals):
        return "the loss returned one value per sample for some batches and (sum, weight) for others"
    weights = [float(part) for _, part in totals if part is not None]
    return _sum_mistake("the loss", cut, (summed, [value for value, _ in totals]), (float(weight), weights))


def _equal(one: Any, other: Any) -> bool:
    """Compare to the bit, NaN included."""
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=True)
    return all(
        torch.equal(torch.nan_to_num(torch.as_tensor(a)), torch.nan_to_num(torch.as_tensor(b)))
        for a, b in pairs
    )


def _sample_mistake(whole: torch.Tensor, pieces: torch.Tensor, cut: Cut) -> str | None:
    tolerance = _tolerance(whole)
    whole, pieces = whole.detach().double(), pieces.detach().double()
    scale = max(float(whole.abs().max()), float(pieces.abs().max()))
    different = ~((whole - pieces).abs() <= tolerance * scale)
    if not bool(different.any()):
        return None
    row = int(different.nonzero()[0])
    alike = cut.size > 1 and bool(((whole - whole[0]).abs() <= tolerance * scale).all())
    what = "all samples get the same number, as of a mean" if alike else "it looks at the other samples"
    return (
        f"the loss of sample {row} is {float(whole[row]):.6g} in a batch of {cut.size}"
        f" and {float(pieces[row]):.6g} in a smaller one: {what}"
    )


def _sum_mistake(
    who: str, cut: Cut, sums: tuple[torch.Tensor, list[torch.Tensor]], counts: tuple[float, list[float]]
) -> str | None:
    """Describe what is wrong with a (sum, count) of a batch, given those of its parts."""
    tolerance = _tolerance(sums[0])
    whole, parts = float(sums[0]), [float(value) for value in sums[1]]
    if not _close(counts[0], counts[1], tolerance):
        return (
            f"{who} has the {'weight' if who == 'the loss' else 'count'} {counts[0]:g} for {cut.size} samples,"
            f" but {_listed(counts[1])} for its parts of {cut.sizes}: {_count_mistake(counts)}"
        )
    if not _close(whole, parts, tolerance):
        return (
            f"{who} has the sum {whole:.6g} for {cut.size} samples, but its parts of {cut.sizes}"
            f" sum to {sum(parts):.6g}: a mean is not a sum"
        )
    return None


def _count_mistake(counts: tuple[float, list[float]]) -> str:
    return "one mean, whatever the samples" if {counts[0], *counts[1]} == {1.0} else "they do not add up"


def _listed(values: list[float]) -> str:
    return " + ".join(f"{value:g}" for value in values)


def _close(whole: float, parts: list[float], tolerance: float) -> bool:
    scale = max(abs(whole), sum(map(abs, parts)))
    return abs(whole - sum(parts)) <= tolerance * scale


def _tolerance(value: torch.Tensor) -> float:
    if not value.is_floating_point():
        return 0.0
    return _TOLERANCE.get(value.dtype, _HALF_TOLERANCE)


def check_metrics(metrics: Mapping[str, Metric], cut: Cut) -> Iterator[Finding]:
    """Check whether each metric adds up."""
    for name, metric in metrics.items():
        yield _check_metric(name, metric, cut)


def check_directions(config: RunConfig, names: Iterable[str]) -> Finding:
    """Tell which way of each metric is better: a best checkpoint, an early end and a sweep go by it."""
    words = {"min": "lower", "max": "higher", None: "unknown"}
    known = {f"val/{name}": config.direction_of(f"val/{name}") for name in ("loss", *names)}
    what = "better is " + ", ".join(f"{words[way]} for {metric}" for metric, way in known.items())
    unknown = [metric.removeprefix("val/") for metric, way in known.items() if way is None]
    if unknown:  # no mistake: what would go by it asks for it
        what += f"; say it in metrics: {{use: …:{unknown[0]}, better: lower}}, or higher"
    return Finding("directions", "PASS", what)


def _check_metric(name: str, metric: Metric, cut: Cut) -> Finding:
    where = definition_location(getattr(metric, "collect", metric))
    try:
        if isinstance(metric, ModuleMetric):
            return check_module(metric, cut.target, cut.targets, cut.outputs)
        if metric.is_mean and isinstance(metric, AdditiveMetric):
            return _check_pairs(name, metric, cut, where)
        return check_statistics(metric, cut.target, cut.targets, cut.outputs)
    except TrainingError as error:
        return Finding(
            f"metric {name}", "FAIL", error.message, where, error.hint or _METRIC_ADVICE, blocks=True
        )
    except Exception as error:  # noqa: BLE001 - the user's code; whatever it raised is what we tell
        return _exception_finding(f"metric {name}", error)


def _check_pairs(name: str, metric: AdditiveMetric, cut: Cut, where: str) -> Finding:
    """Check a (sum, count)."""
    moved, collect = False, metric.collect
    for output, parts in cut.outputs:
        value, counted = sum_metric(collect(output, cut.target), name)
        pairs = [
            sum_metric(collect(part, target), name) for part, target in zip(parts, cut.targets, strict=True)
        ]
        moved = moved or float(value) != 0
        sums = (value.to(_lowest_precision(output)), [part for part, _ in pairs])
        counts = (float(counted), [float(part) for _, part in pairs])
        if wrong := _sum_mistake("it", cut, sums, counts):
            return Finding(f"metric {name}", "FAIL", wrong, where, _METRIC_ADVICE)
    if not moved:
        return Finding(
            f"metric {name}", "NOTE", "its sum was 0 for every batch: whether it adds up is unknown"
        )
    what = f"(sum, count); a batch of {cut.size} equals its parts of {cut.sizes}"
    return Finding(f"metric {name}", "PASS", what)


def _lowest_precision(output: Any) -> torch.dtype:
    """Return the type that the metric computed with."""
    kinds = [leaf.dtype for leaf in tree_leaves(output) if leaf.is_floating_point()]
    return min(kinds, key=lambda kind: kind.itemsize) if kinds else torch.float64


def _exception_finding(check: str, error: Exception) -> Finding:
    """Describe an exception: a part of a batch was too small for the code, or it is simply wrong."""
    what = f"{type(error).__name__}: {error}"
    return Finding(check, "FAIL", what, user_location(error), "correct the code at that line", blocks=True)

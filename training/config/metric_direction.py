"""A metric in a config, and which way of it is better. No torch here: sweeps are ranked with it, too.

A checkpoint that is kept as the best must not be the worst, so a name that does not tell is never guessed.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_serializer
from pydantic_core import PydanticKnownError

Direction = Literal["min", "max"]

_LESS_IS_BETTER = frozenset((
    "loss", "error", "err", "mae", "mse", "rmse", "mape", "smape", "rmsle", "nll", "bce", "perplexity", "ppl", "cer",
    "wer", "eer", "fid", "kid", "lpips", "brier", "ece", "entropy", "distance",
))  # fmt: skip
_MORE_IS_BETTER = frozenset((
    "accuracy", "acc", "precision", "recall", "sensitivity", "specificity", "f1", "fbeta", "auc", "auroc", "auprc",
    "map", "ap", "iou", "miou", "jaccard", "dice", "r2", "mcc", "kappa", "ndcg", "mrr", "bleu", "rouge", "chrf",
    "psnr", "ssim", "top1", "top5", "correct",
))  # fmt: skip
_NEUTRAL = frozenset(["rate", "score", "mean", "avg", "macro", "micro", "weighted", "at", "k"])
"""Words that may follow without changing which way is better, unlike those of ``accuracy_gap``."""


BUILT_IN: dict[str, Direction] = {"accuracy": "max", "mae": "min"}
"""The metrics of ``components/metrics.py``, which know it themselves."""


def direction_of(metric: str) -> Direction | None:
    """Tell which way of a metric is better; None where its name does not say so.

    Args:
        metric: as the record names it, such as ``val/mae``.
    """
    if known := BUILT_IN.get(metric.removeprefix("val/")):
        return known
    words = re.findall(r"[a-z]+[0-9]*", metric.rpartition("/")[2].lower())
    telling = [word for word in words if word not in _NEUTRAL]
    last = telling[-1] if telling else ""
    if last in _LESS_IS_BETTER or last.endswith(("loss", "error")):
        return "min"
    mixed = any(word in _LESS_IS_BETTER for word in telling)  # error_recall: of what?
    return "max" if last in _MORE_IS_BETTER and not mixed else None


_DIRECTIONS: dict[str, Direction] = {"lower": "min", "higher": "max"}


class MetricConfig(BaseModel, frozen=True, extra="forbid"):
    """A metric; written as its name alone where nothing else is said of it."""

    use: str = Field(min_length=1)
    """Of ``components/metrics.py``, or a callable ``(output, target) -> (sum, count)``."""
    better: Literal["lower", "higher"] | None = None
    """Unset: as its name says."""

    @property
    def name(self) -> str:
        """The name in the record, after ``val/``."""
        return self.use.rpartition(":")[2]

    @property
    def direction(self) -> Direction | None:
        """Which way is better, where that is said here."""
        return None if self.better is None else _DIRECTIONS[self.better]

    @model_serializer
    def _as_written(self) -> str | dict[str, str]:
        return self.use if self.better is None else {"use": self.use, "better": self.better}


def _from_name(value: Any) -> Any:
    if isinstance(value, str):
        return {"use": value}
    if not isinstance(value, dict | MetricConfig):
        raise PydanticKnownError("string_type")
    return value


Metrics = tuple[Annotated[MetricConfig, BeforeValidator(_from_name)], ...]
"""The value of ``metrics:``."""

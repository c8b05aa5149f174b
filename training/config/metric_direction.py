"""Which way of a metric is better, by its name. No torch and no pydantic here: sweeps are ranked with it, too.

A checkpoint that is kept as the best must not be the worst, so a name that does not tell is never guessed.
"""

from __future__ import annotations

import re
from typing import Literal

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


BUILT_IN: dict[str, Direction] = {
    **dict.fromkeys(("accuracy", "auroc", "f1", "mean_iou", "precision", "r2", "recall", "top_k"), "max"),
    **dict.fromkeys(("mae", "perplexity", "rmse"), "min"),
}
"""The metrics of ``metrics/metrics.py``, which know it themselves."""


def direction_of(metric: str) -> Direction | None:
    """Tell which way of a metric is better; None where its name does not say so.

    Args:
        metric: as the record names it, such as ``val/mae``.
    """
    if known := BUILT_IN.get(metric.partition("/")[2] or metric):
        return known
    words = re.findall(r"[a-z]+[0-9]*", metric.rpartition("/")[2].lower())
    telling = [word for word in words if word not in _NEUTRAL]
    last = telling[-1] if telling else ""
    if last in _LESS_IS_BETTER or last.endswith(("loss", "error")):
        return "min"
    mixed = any(word in _LESS_IS_BETTER for word in telling)  # error_recall: of what?
    return "max" if last in _MORE_IS_BETTER and not mixed else None

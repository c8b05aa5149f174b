"""Which settings identify a run, which may be extended, and which are free to change. No torch here."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from .optimizers import IDENTITY_KEYS, OptimizerConfig
from .run_config import RunConfig
from .schedules import LATER_SCHEDULE_KEYS

MUTABLE_KEYS = (
    "log.",
    "checkpoint.",
    "tracking",
    "wandb.",
    "hooks",
    "data.workers",
    "data.cache",
    "data.share",
    "data.root",
    "data.on_bad",
    "data.max_bad",
    "data.max_micro_batch",
    "train.unused",
    "train.verify_every",
    "train.elastic",
    "train.strategy",
    "train.compile",
    "model.checkpointing",
    "model.channels_last",
)
_FIRST_OPTIMIZER_KEYS = ("use", "lr", "weight_decay", "groups", *IDENTITY_KEYS)
LATER_KEYS = (
    "data.scale_uint8",
    "data.iterable_shards",
    "data.pack",
    "data.collate",
    "data.samples",
    "data.target",
    "data.pad",
    "data.fold",
    "data.augment.steps",
    "data.group",
    "data.stratify",
    "data.sets",
    "data.weights",
    "data.balance",
    "data.epoch_size",
    "model.weights_match",
    "model.head",
    "model.sync_batch_norm",
    "model.frozen",
    "step",
    "train.metrics",
    "train.logical_ranks",
    "optimizers",
    *LATER_SCHEDULE_KEYS,
    *(f"optimizer.{key}" for key in OptimizerConfig.model_fields if key not in _FIRST_OPTIMIZER_KEYS),
)
"""Keys that checkpoints of the first version do not hold: they count only where they are not their default."""
EXTENDABLE_KEYS = ("train.epochs", "train.steps", "train.max_steps", "train.early_stop", "train.eval_")


def may_change(key: str) -> bool:
    """Tell whether a run may be resumed with another value of this key."""
    return key.startswith((*MUTABLE_KEYS, *EXTENDABLE_KEYS))


def flatten_config(config: RunConfig) -> dict[str, Any]:
    """List every setting by its dotted path, as plain values."""
    return dict(_flatten(config.model_dump(mode="json"), ""))


def identity_settings(config: RunConfig) -> dict[str, Any]:
    """Select the settings that stay the same for as long as the run lives."""
    defaults = {key: value for key, value in flatten_config(RunConfig()).items() if key in LATER_KEYS}
    free: tuple[str, ...] = (*MUTABLE_KEYS, *EXTENDABLE_KEYS)
    if any(
        config.monitored_by(one) for one in config.schedules().values()
    ):  # evaluations decide the learning rate
        free = tuple(key for key in free if key != "train.eval_")
    return {
        key: _without_directions(value) if key == "metrics" else value
        for key, value in flatten_config(config).items()
        if not key.startswith(free) and not (key in defaults and value == defaults[key])
    }


def _without_directions(metrics: list[Any] | None) -> list[Any] | None:
    """Leave out which way of a metric is better: nothing that is trained depends on it."""
    return None if metrics is None else [_without_direction(item) for item in metrics]


def _without_direction(metric: Any) -> Any:
    if not isinstance(metric, dict):
        return metric
    said = {key: value for key, value in metric.items() if key != "better"}
    return said if len(said) > 1 else said["use"]


def identity_sha256(config: RunConfig) -> str:
    """Hash ``identity_settings``."""
    return hashlib.sha256(json.dumps(identity_settings(config), sort_keys=True).encode()).hexdigest()


def describe_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Write one line for each key whose values differ."""
    keys = sorted(before.keys() | now.keys())
    return [
        f"{key}: {before.get(key)} in the run, {now.get(key)} now"
        for key in keys
        if before.get(key) != now.get(key)
    ]


def _flatten(document: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in document.items():
        if isinstance(value, dict) and value:
            found += _flatten(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value))
    return found

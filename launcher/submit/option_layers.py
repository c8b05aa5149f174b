"""What a job asks for, out of several sources of which the later wins: a profile, the config, the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ...data.common import UsageError
from ..options import SupervisionOptions
from ..slurm import SlurmConfig, declared_options

PROCESS_KEYS = ("gpus", "cpu")
"""Keys of which a job has one: the one that was said last."""
SUPERVISION_KEYS = tuple(field.name for field in fields(SupervisionOptions))
"""Keys of the ``slurm:`` section that mean something without SLURM, too."""


@dataclass(frozen=True)
class OptionLayer:
    """One source: keys of the ``slurm:`` section, and where each was said."""

    values: dict[str, Any]
    origins: dict[str, str]


@dataclass(frozen=True)
class JobOptions:
    """Every option of a job, and who said so."""

    slurm: SlurmConfig
    origins: dict[str, str]
    """Key of the ``slurm:`` section to where its value came from."""
    supervision: SupervisionOptions = field(default_factory=SupervisionOptions)


def job_options(layers: Sequence[OptionLayer]) -> JobOptions:
    """Put the sources together; each has been checked by itself.

    Raises:
        UsageError: one source wants both GPUs and CPU processes.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in (_defaults(), *layers):
        _lay(values, origins, layer)
    slurm = SlurmConfig.model_validate(values)
    return JobOptions(slurm, origins, _supervision(slurm))


def _defaults() -> OptionLayer:
    declared = declared_options(SlurmConfig).items()
    values = {key: option.default for key, option in declared if option.default is not None}
    return OptionLayer(values, dict.fromkeys(values, "default"))


def _lay(values: dict[str, Any], origins: dict[str, str], layer: OptionLayer) -> None:
    """Put a layer over those before it."""
    given = {key: value for key, value in layer.values.items() if value is not None}
    if all(key in given for key in PROCESS_KEYS):
        raise UsageError(
            f"gpus ({layer.origins['gpus']}) and cpu ({layer.origins['cpu']}):"
            " a job's processes are on GPUs or on CPUs, not both",
            "leave one of them out",
        )
    if any(key in given for key in PROCESS_KEYS):
        for key in PROCESS_KEYS:
            values.pop(key, None)
            origins.pop(key, None)
    for key, value in given.items():
        both = key == "sbatch" and key in values  # options of several sources stand beside each other
        values[key] = {**values[key], **value} if both else value
        origins[key] = f"{origins[key]}; {layer.origins[key]}" if both else layer.origins[key]


def _supervision(slurm: SlurmConfig) -> SupervisionOptions:
    given = {key: getattr(slurm, key) for key in SUPERVISION_KEYS}
    return SupervisionOptions(**{key: value for key, value in given.items() if value is not None})

"""What a job asks for, out of a cluster's profile, the config and the command line; later wins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..data.errors import UsageError
from ..training.slurm_spec import SlurmConfig
from .clusters import Profile, mistakes
from .config import ResolvedConfig
from .supervision import Supervision
from .yaml_file import listing

COMMAND_LINE = "command line"
DEFAULTS = {"nodes": 1, "continuation": "auto", "max_preemptions": 50, "max_crashes": 2}
_EITHER = ("gpus", "cpu")  # a job has one of them: the one that was said last


@dataclass(frozen=True)
class JobOptions:
    """Every option of a job, and who said so."""

    slurm: SlurmConfig
    origins: dict[str, str]
    """Key of the ``slurm:`` section to where its value came from."""
    supervision: Supervision = field(default_factory=Supervision)


def job_options(
    profile: Profile, resolved: ResolvedConfig | None, command_line: dict[str, Any]
) -> JobOptions:
    """Put the sources together.

    Args:
        profile: of the cluster.
        resolved: the config of a training; None for a program.
        command_line: keys of the ``slurm:`` section with what the command line says; None where it says nothing.

    Raises:
        UsageError: one of the values is wrong.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    said = {key: value for key, value in command_line.items() if value not in (None, [], {})}
    _check_command_line(said)
    _lay(values, origins, DEFAULTS, dict.fromkeys(DEFAULTS, "default"))
    _lay(values, origins, profile.values, {key: profile.origin(key) for key in profile.values})
    if resolved is not None:
        section = resolved.config.slurm.model_dump(mode="json")
        _lay(values, origins, section, {key: _config_origin(resolved, key) for key in section})
    _lay(values, origins, said, dict.fromkeys(said, COMMAND_LINE))
    slurm = SlurmConfig.model_validate(values)
    return JobOptions(slurm, origins, _supervision(slurm))


def _check_command_line(said: dict[str, Any]) -> None:
    problems = [f"--{str(path[0]).replace('_', '-')}: {text}" for path, text in mistakes(said)]
    if all(key in said for key in _EITHER):
        problems.append("--gpus and --cpu: a job has processes on GPUs or on CPUs, not both")
    if problems:
        raise UsageError(listing(problems), "`launch submit --help` has every option")


def _lay(
    values: dict[str, Any], origins: dict[str, str], layer: dict[str, Any], whence: dict[str, str]
) -> None:
    """Put a layer over those before it."""
    layer = {key: value for key, value in layer.items() if value is not None}
    if any(key in layer for key in _EITHER):
        for key in _EITHER:
            values.pop(key, None)
            origins.pop(key, None)
    for key, value in layer.items():
        values[key] = {**values.get(key, {}), **value} if key == "sbatch" else value
        origins[key] = f"{origins[key]}; {whence[key]}" if key == "sbatch" and key in origins else whence[key]


def _config_origin(resolved: ResolvedConfig, key: str) -> str:
    """Of a mapping, that of its first entry."""
    path = f"slurm.{key}"
    inner = (where for known, where in resolved.origins.items() if known.startswith(f"{path}."))
    return "config " + (resolved.origins.get(path) or next(inner, resolved.source.name))


def _supervision(slurm: SlurmConfig) -> Supervision:
    given = {key: getattr(slurm, key) for key in ("hang_timeout", "max_restarts", "grace")}
    return Supervision(**{key: value for key, value in given.items() if value is not None})

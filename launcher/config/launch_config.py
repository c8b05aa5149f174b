"""The whole config: the part that ranks read, and the part that the launcher keeps to itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, field_validator

from ...training.config import RunConfig, missing_package
from ..slurm import SlurmConfig


class LaunchConfig(RunConfig):
    """A whole config."""

    slurm: SlurmConfig = Field(default_factory=SlurmConfig)
    """What a SLURM job asks for, where the run is submitted; what is unset is left to the site."""

    @field_validator("tracking")
    @classmethod
    def _trackers_are_installed(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        # Checked here and not in RunConfig: a run's spec is also read on machines that train nothing.
        for name in names:
            if problem := missing_package(name):
                raise ValueError(f"{name}: {problem}")
        return names


@dataclass(frozen=True)
class ResolvedConfig:
    """A checked config, and the origin of each of its values."""

    config: RunConfig
    """What the ranks read."""
    slurm: SlurmConfig
    """What a SLURM job asks for, if the run is submitted."""
    origins: dict[str, str]
    """Dotted path of each value to ``default``, ``mnist.yaml:3`` or ``override train.epochs=5``."""
    name: str
    """The recipe, or the file's name without its suffix."""
    base: Path
    """The absolute folder that relative paths in the config are relative to."""
    source: Path
    """The absolute path of the file that was read."""
    notes: tuple[str, ...] = ()
    """Messages about settings in the file that the command line has made meaningless."""

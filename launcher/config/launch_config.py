"""The whole config: the part that ranks read, and the part that the launcher keeps to itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from ...data.common import UsageError
from ...data.config import BATCH_SIZE, DatasetInfo
from ...training.config import MetricConfig, RunConfig, missing_package
from ..slurm import SlurmConfig
from .class_weights import CLASS_WEIGHTS, balanced_weights
from .fitting_loss import fitting_loss
from .partial_config import DEFAULT
from .yaml_text import format_value


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

    def with_found(self, facts: DatasetInfo) -> tuple[ResolvedConfig, DatasetInfo]:
        """Return the config with what only the data show, and the facts with what is in force.

        That is the batch size that a user's function returns, the loss that fits the target, and balanced weights of
        classes.

        Raises:
            UsageError: other settings do not go with it, or the classes are not known.
        """
        resolved, facts = self._with_batch_size(facts)
        resolved, facts = _with_loss(resolved, facts)
        loss = resolved.config.loss
        weights = balanced_weights(loss, facts)
        if weights is None:
            return resolved, facts
        weighted = loss.model_copy(update={"args": {**loss.args, "class_weights": weights}})
        config = resolved.config.model_copy(update={"loss": weighted})
        origins = {**resolved.origins, CLASS_WEIGHTS: "balanced, by the training set"}
        return replace(resolved, config=config, origins=origins), facts

    def _with_batch_size(self, facts: DatasetInfo) -> tuple[ResolvedConfig, DatasetInfo]:
        found = next((one for one in facts.found if one.key == BATCH_SIZE), None)
        if found is None:
            return self, facts
        if self.origins.get(BATCH_SIZE) != DEFAULT:  # the config's own counts
            return self, replace(facts, found=tuple(one for one in facts.found if one is not found))
        document = self.config.model_dump(mode="json")
        document["data"]["batch_size"] = found.value
        try:
            config = RunConfig.model_validate(document)
        except ValidationError as error:
            what = error.errors(include_url=False)[0]["msg"]
            message = f"{BATCH_SIZE}={found.value}: {found.why}, but: {what}"
            raise UsageError(
                message, f"set {BATCH_SIZE} in the config, or change what is returned"
            ) from error
        origin = {BATCH_SIZE: f"returned by {facts.name}"}
        return replace(self, config=config, origins={**self.origins, **origin}), facts


def _with_loss(resolved: ResolvedConfig, facts: DatasetInfo) -> tuple[ResolvedConfig, DatasetInfo]:
    """Put the loss that fits the target in the place of ``auto``, with metrics where none are named; say so."""
    config = resolved.config
    chosen = fitting_loss(config.trained_loss, facts)
    if chosen is None:
        return resolved, facts
    found: dict[str, Any] = {"loss": config.loss.model_copy(update={"use": chosen.use})}
    said = {"loss.use": chosen.use}
    if config.metrics is None:
        found["metrics"] = tuple(MetricConfig(use=name) for name in chosen.metrics)
        said["metrics"] = format_value(chosen.metrics)
    origins = {key: f"{resolved.origins[key]}, by the data: {chosen.why}" for key in said}
    note = f"{chosen.why}: {' '.join(f'{key}={value}' for key, value in said.items())}"
    resolved = replace(
        resolved, config=config.model_copy(update=found), origins={**resolved.origins, **origins}
    )
    return resolved, replace(facts, notes=(*facts.notes, note))

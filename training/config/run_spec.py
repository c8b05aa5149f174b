"""``spec.json``: everything that a rank needs to know, however it is started."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ...data.common import DamagedError, UsageError
from ...data.config import DatasetInfo
from .run_config import RunConfig

SCHEMA_VERSION = 1
_NOT_A_RANKS = ("slurm",)
"""Sections that 0.1 wrote into a spec, and that no rank ever read."""


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file that a run starts from."""

    path: str
    """Absolute."""
    sha256: str


@dataclass(frozen=True)
class RunSpec:
    """One run, independent of the number of processes that will train it."""

    run: str
    """The run's name."""
    config: RunConfig
    base: Path
    """The folder that the config's relative paths start from."""
    facts: DatasetInfo
    device: Literal["cpu", "gpu"]
    wandb_id: str
    """One for the whole run, however often it is started."""
    weights: tuple[WeightsFile, ...] = ()
    """What the model starts from; of names that are in several files, the last file's."""

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values for ``json.dumps``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "run": self.run,
            "device": self.device,
            "base": str(self.base),
            "wandb_id": self.wandb_id,
            "weights": [asdict(file) for file in self.weights],
            "config": self.config.model_dump(mode="json"),
            "data": self.facts.to_json(),
        }


def read_spec(path: Path) -> RunSpec:
    """Read the spec in ``path``.

    Raises:
        UsageError: there is no such file.
        DamagedError: it is not a spec of this version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such file", "`launch status` lists the runs") from error
    except ValueError as error:
        raise DamagedError(f"{path}: not JSON: {error}", "start the run again under another name") from error
    if document.get("schema_version") != SCHEMA_VERSION:
        raise DamagedError(
            f"{path}: schema version {document.get('schema_version')}, this Lockstep reads {SCHEMA_VERSION}",
            "use the Lockstep that wrote it",
        )
    config = {key: value for key, value in document["config"].items() if key not in _NOT_A_RANKS}
    return RunSpec(
        run=document["run"],
        config=RunConfig.model_validate(config),
        base=Path(document["base"]),
        facts=DatasetInfo.from_json(document["data"]),
        device=document["device"],
        wandb_id=document["wandb_id"],
        weights=tuple(WeightsFile(**file) for file in document.get("weights", ())),
    )

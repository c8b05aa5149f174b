"""Reads ``spec.json``: everything that a rank needs to know, however it is started."""

from __future__ import annotations

import json
from pathlib import Path

from ...data.common import DamagedError, UsageError
from ...data.config import DatasetInfo
from .run_config import SCHEMA_VERSION, RunConfig, RunSpec, WeightsFile
from .schedules import OF_A_RUN

_NOT_A_RANKS = ("slurm",)
"""Sections that 0.1 wrote into a spec, and that no rank ever read."""


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
        config=RunConfig.model_validate(config, context=OF_A_RUN),
        base=Path(document["base"]),
        facts=DatasetInfo.from_json(document["data"]),
        device=document["device"],
        wandb_id=document["wandb_id"],
        weights=tuple(WeightsFile(**file) for file in document.get("weights", ())),
    )

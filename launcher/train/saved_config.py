"""The config of a run that is there."""

from __future__ import annotations

from dataclasses import replace

from ...training.config import read_spec
from ..config import ResolvedConfig, resolve
from ..runs import find_run


def read_run_config(run: str, overrides: list[str]) -> ResolvedConfig:
    """Read a run's own config, with ``overrides``."""
    folder = find_run(run)
    resolved = resolve(str(folder / "config.yaml"), overrides)
    return replace(resolved, name=folder.name, base=read_spec(folder / "spec.json").base)

"""The look of ``launch check`` at a user's code, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lockstep.data.prepare import prepare
from lockstep.launcher.config.resolution import resolve
from lockstep.training.check.run_checks import probe
from lockstep.training.config.run_config import RunSpec
from lockstep.training.rank.process_group import Group


def probe_project(config: Path, alone: Group, settings: list[str]) -> dict[str, Any]:
    """What one process finds in a project, to be trained on two."""
    resolved = resolve(str(config), settings)
    facts = prepare(resolved.config.data, resolved.base)
    threads = torch.get_num_threads()
    try:
        return probe(RunSpec("look", resolved.config, resolved.base, facts, "cpu", ""), alone, 2)
    finally:
        torch.set_num_threads(threads)


def not_passed(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The findings other than PASS, by the names of their checks."""
    return {found["check"]: found for found in answer["findings"] if found["verdict"] != "PASS"}

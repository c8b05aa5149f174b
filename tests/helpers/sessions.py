"""One rank's session of a user's project, in this process; a rank of several computes, but cannot reduce."""

from __future__ import annotations

from pathlib import Path

import torch

from lockstep.data.prepare import prepare
from lockstep.launcher.config.resolution import resolve
from lockstep.training.config.run_config import RunSpec
from lockstep.training.rank.process_group import Group
from lockstep.training.session.build import build_session
from lockstep.training.session.session import Session

ALONE = Group(0, 0, 1, torch.device("cpu"))


def open_session(config: Path, settings: list[str], group: Group = ALONE) -> Session:
    """What a rank builds from a config and settings."""
    resolved = resolve(str(config), settings)
    facts = prepare(resolved.config.data, resolved.base)
    return build_session(RunSpec("run", resolved.config, resolved.base, facts, "cpu", "id"), group)

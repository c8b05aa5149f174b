"""Feeds W&B from ``metrics.jsonl`` in a process of its own, so that nothing W&B does can cost a step.

Started by rank 0 as ``python -P -m lockstep.training.wandb_feed RUN``; ends with the record's last event, or
with the process that started it.
"""

from __future__ import annotations

import json
import netrc
import os
import sys
import time
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from .runspec import RunSpec, read_spec
from .spec import WandbConfig

Mode = Literal["online", "offline", "disabled"]
_POLL_SECONDS = 0.2
_LOGGED = ("epoch", "step")


def choose_mode(config: WandbConfig) -> Mode:
    """The mode to use: what the config says, or, for ``auto``, online for people who are logged in."""
    if config.mode != "auto":
        return config.mode
    asked = os.environ.get("WANDB_MODE", "")
    if asked in ("online", "offline", "disabled"):
        return asked  # type: ignore[return-value]  # one of the three
    return "online" if _logged_in() else "offline"


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return host is not None and netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def main(argv: list[str]) -> None:
    """Feed the run in folder ``argv[0]`` until its record ends."""
    folder = Path(argv[0])
    os.nice(10)  # the ranks need the processors more
    spec = read_spec(folder / "spec.json")
    run = _start(spec, folder)
    with (folder / "metrics.jsonl").open(encoding="utf-8") as file:
        status = _follow(run, file, os.getppid())
    run.finish(exit_code=status)


def _start(spec: RunSpec, folder: Path) -> Any:
    import wandb

    config = spec.config.wandb
    settings = wandb.Settings(
        console="off", silent=True, save_code=False, disable_git=True, x_disable_stats=True, init_timeout=30
    )
    run = wandb.init(
        project=config.project,
        entity=config.entity,
        name=spec.run,
        id=spec.wandb_id,
        dir=folder,
        mode=choose_mode(config),
        resume="allow",
        config=spec.config.model_dump(mode="json"),
        settings=settings,
    )
    run.define_metric("*", step_metric="step")
    return run


def _follow(run: Any, file: Any, parent: int) -> int:
    """Log every event as it is written; the exit status that the last one tells."""
    pending = ""
    while True:
        text = file.readline()
        if not text:
            if os.getppid() != parent:
                return 1
            time.sleep(_POLL_SECONDS)
            continue
        pending += text
        if not pending.endswith("\n"):
            continue
        event, pending = json.loads(pending), ""
        if event["event"] == "end":
            return 0
        if event["event"] in _LOGGED:
            run.log({key: value for key, value in event.items() if key not in ("time", "event")})


if __name__ == "__main__":
    main(sys.argv[1:])

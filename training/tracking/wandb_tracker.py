"""Sends a run's rows to W&B, or records them for ``wandb sync``.

A row's number is W&B's own step. A server takes a number once, so that no attempt can leave a gap or an overlap; where
it can, it forgets what was logged after the checkpoint, and takes the rows of the new attempt instead.
"""

from __future__ import annotations

import netrc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...data.common import children, process_of
from ..config import RunConfig, WandbConfig, WandbMode, requested_mode
from .rows import Row
from .tracker import NewProcessNeededError, TrackedRun, Tracker

_SENT_MARKER = "wandb.sent"  # in the run folder: W&B has rows of this run
_WENT_OFFLINE = "W&B could not be reached; the run was recorded offline, and `wandb sync` can send it later"


def choose_mode(config: WandbConfig) -> WandbMode:
    """Return the mode to use: what the config says, or, for ``auto``, W&B's variables, or online where logged in."""
    if config.mode != "auto":
        return config.mode
    if requested := requested_mode(os.environ):
        return requested[0]
    return "online" if _is_logged_in() else "offline"


def _is_logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return host is not None and netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandbTracker(Tracker):
    """The W&B run."""

    def __init__(self) -> None:
        import wandb  # noqa: F401 - imported while the ranks still start

        self._run: Any = None
        self._went_offline = False

    @classmethod
    def is_enabled(cls, config: RunConfig) -> bool:
        """Say whether W&B is to get or record anything."""
        return choose_mode(config.wandb) != "disabled"

    def begin(self, run: TrackedRun) -> int:
        """Begin in the mode that was chosen; offline where the server cannot be reached, so that nothing is lost."""
        import wandb

        self._tracked = run
        self._mode = choose_mode(run.config.wandb)
        _set_aside_offline(run.folder)
        with _watched_service():
            try:
                self._run = self._online() if self._mode == "online" else self._offline()
            except Exception as error:
                if self._mode != "online":
                    raise
                sys.stderr.write(f"W&B cannot be reached, recording offline: {error}\n")
                wandb.teardown()  # its service still holds the run's id
                self._run, self._mode, self._went_offline = self._offline(), "offline", True
        return int(self._run.starting_step)

    def rewind(self, last_kept: int) -> int:
        """Have the server forget rows, where it can.

        Few can: ``resume_from`` is a preview on W&B's own servers and missing on others. Elsewhere those rows stay
        and are not sent again, which is the same to the bit unless the processes or ``log.`` have changed.
        """
        if self._mode == "online" and last_kept >= 0:
            with _watched_service():
                self._run.finish()
                self._run = self._online_from(last_kept)
        return int(self._run.starting_step)

    def rows(self, rows: Sequence[Row]) -> None:
        """Log rows."""
        with _watched_service():
            for row in rows:
                self._run.log(dict(row.values), step=row.number, commit=True)

    def pictures(self, step: int, pictures: Mapping[str, Path]) -> None:
        """Log pictures; they are committed with the next row."""
        import wandb

        with _watched_service():
            images = {name: wandb.Image(str(path)) for name, path in pictures.items()}
            self._run.log(images, step=2 * step + 1, commit=False)

    def end(self, exit_status: int) -> str | None:
        """Close the run as what it was: 0 is finished, anything else failed."""
        with _watched_service():
            self._run.finish(exit_code=exit_status)
        return _WENT_OFFLINE if self._went_offline else None

    def _online(self) -> Any:
        run = _start(self._tracked, "online")
        (self._tracked.folder / _SENT_MARKER).touch()
        return run

    def _online_from(self, last_kept: int) -> Any:
        import wandb

        try:
            return _start(self._tracked, "online", resume_from=f"{self._tracked.id}?_step={last_kept}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the run can be tracked without
            sys.stderr.write(f"W&B keeps what was logged after the checkpoint: {error}\n")
            wandb.teardown()
            return _start(self._tracked, "online")

    def _offline(self) -> Any:
        """Start a record of its own; not where W&B has rows already: `wandb sync` would append them all once more."""
        if (self._tracked.folder / _SENT_MARKER).exists():
            sys.exit("W&B has a part of this run: the rest is not recorded offline, but can be sent later")
        return _start(self._tracked, "offline")


def _start(run: TrackedRun, mode: WandbMode, *, resume_from: str | None = None) -> Any:
    import wandb

    config = run.config.wandb
    settings = wandb.Settings(
        console="off", silent=True, save_code=False, disable_git=True, x_disable_stats=True, init_timeout=20
    )
    started = wandb.init(
        project=config.project,
        entity=config.entity,
        name=config.name or run.name,
        group=config.group,
        tags=config.tags or None,
        job_type=config.job_type,
        notes=config.notes,
        id=run.id,
        dir=run.folder,
        mode=mode,
        resume=None if resume_from else "allow",
        resume_from=resume_from,
        config=run.config.model_dump(mode="json"),
        settings=settings,
    )
    started.define_metric("*", step_metric="step")
    return started


def _set_aside_offline(folder: Path) -> None:
    """Move earlier offline records away: the whole record is sent or written again, and must not be synced twice."""
    for old in sorted((folder / "wandb").glob("offline-run-*")):
        if any(old.glob("*.synced")):
            (folder / _SENT_MARKER).touch()
        aside = folder / "wandb-superseded"
        aside.mkdir(exist_ok=True)
        number = sum(1 for _ in aside.iterdir())  # two of the same second have the same name
        old.rename(aside / f"{old.name}-{number}")


@contextmanager
def _watched_service() -> Iterator[None]:
    """Ask for a new process where W&B's service has been killed: a program of its own, which SIGTERM ends."""
    try:
        yield
    except Exception as error:
        if _is_service_alive():
            raise
        os.environ.pop("WANDB_SERVICE", None)  # where the dead one was
        raise NewProcessNeededError("W&B's service was killed") from error


def _is_service_alive() -> bool:
    """Say whether the process lives that W&B's library has started, and talks to."""
    return any(process_of(child) is not None for child in children(os.getpid()))

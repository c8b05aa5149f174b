"""Feeds W&B from ``metrics.jsonl`` in a process of its own, so that nothing W&B does can cost a step.

Started with RUN and KEPT by the supervisor, or by rank 0 where there is none.
Ends when its stdin does, and so with the process that started it, however that ends.

Every row has a number that grows with the training step, and is W&B's own step: what an attempt logs again after a
checkpoint has the numbers that it had before. A server takes a number once, so that no attempt can leave a gap or an
overlap; where it can, it forgets what was logged after the checkpoint, and takes the rows of the new attempt instead.

Started as ``python -m lockstep.training.tracking.feeder RUN`` by a person, it sends what W&B does not have yet.
"""

from __future__ import annotations

import fcntl
import json
import netrc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NoReturn, TextIO
from urllib.parse import urlsplit

from ...data.common import children, held_back, process_of
from ..config import RunSpec, WandbConfig, read_spec
from .event_log import read_events

Mode = Literal["online", "offline", "disabled"]
_POLL_SECONDS = 0.2
_FELL_BACK = 3  # exit status
_FINISH_SECONDS = 60.0  # at most this long for W&B; the local record is complete long before
_MAX_RESTARTS = 20  # of W&B's service, which SLURM's preemption ends twice
_TRACKED_EVENTS = ("epoch", "step")
_SENT_MARKER = "wandb.sent"  # in the run folder: W&B has rows of this run


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


def start_feeder(spec: RunSpec, folder: Path, log: Path) -> subprocess.Popen[bytes] | None:
    """Start the feeder of a run; None where W&B is disabled or cannot be started, which is no reason not to train."""
    if choose_mode(spec.config.wandb) == "disabled":
        return None
    with suppress(OSError), log.open("ab") as output, held_back():
        return subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "lockstep.training.tracking.feeder",
                str(folder),
                str(_last_row_step(folder)),
            ],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # what kills the ranks, or a Ctrl-C, must not cost the record
        )
    return None


def detach_feeder(feeder: subprocess.Popen[bytes] | None, status: int) -> None:
    """Tell the feeder that the record is complete, and let it finish alone; the next one waits until it has."""
    if feeder is not None and feeder.stdin is not None and not feeder.stdin.closed:
        with suppress(OSError):
            feeder.stdin.write(f"{status}\n".encode())
            feeder.stdin.close()


def finish_feeder(feeder: subprocess.Popen[bytes] | None, status: int) -> str | None:
    """Tell the feeder that the record is complete, and wait for it; a warning where W&B did not take it all."""
    if feeder is None:
        return None
    detach_feeder(feeder, status)
    try:
        ended = feeder.wait(_FINISH_SECONDS)
    except subprocess.TimeoutExpired:
        feeder.kill()
        ended = feeder.wait()
    if ended == _FELL_BACK:
        return "W&B could not be reached; the run was recorded offline, and `wandb sync` can send it later"
    again = f"`python -m {__spec__.name} RUN_FOLDER` sends what is missing"
    return f"W&B did not take the whole record; metrics.jsonl is complete, and {again}" if ended else None


def main(argv: list[str]) -> int:
    """Feed the run in folder ``argv[0]`` until stdin ends; a number on stdin is the run's exit status.

    Args:
        argv: the folder, and the number of the last row that was there before this attempt. Without the number
            no attempt is under way: the record is sent as it is. After them, what is left of this process's lives
            and what it has been told so far, as ``_begin_again`` says it.

    Returns:
        0, or ``_FELL_BACK`` where it went offline instead of online.
    """
    folder, kept = Path(argv[0]), int(argv[1]) if argv[1:] else sys.maxsize
    lives = int(argv[2]) if argv[2:] else _MAX_RESTARTS
    if not argv[2:]:
        os.nice(10)  # the ranks need the processors more
    import wandb  # noqa: F401 - imported while the ranks still start

    with _feeder_lock(folder):
        _set_aside_offline(folder)
        feed = WandbTracker(folder, kept)
        feed.told = int(argv[3]) if argv[3:] else None if argv[1:] else _outcome(folder)
        try:
            _follow(feed)
            signal.alarm(
                round(_FINISH_SECONDS)
            )  # ends this process, should nobody be there any more who would
            feed.take()
            feed.finish()
        except Exception:
            if not lives or _is_service_alive():
                raise
            _begin_again(folder, kept, lives - 1, feed.told)
    return _FELL_BACK if feed.fell_back else 0


def _is_service_alive() -> bool:
    """Whether the process lives that W&B's library has started, and talks to."""
    return any(process_of(child) is not None for child in children(os.getpid()))


def _begin_again(folder: Path, kept: int, lives: int, told: int | None) -> NoReturn:
    """Become a fresh feeder: W&B's service is a program of its own, which SIGTERM ends whatever its mask says.

    The record is sent or written anew, as for another attempt. This process is the same, and so is its stdin.
    """
    sys.stderr.write("W&B's service was killed: the record is begun again\n")
    sys.stderr.flush()
    rest = [str(folder), str(kept), str(lives), *([] if told is None else [str(told)])]
    command = [sys.executable, "-P", "-m", "lockstep.training.tracking.feeder", *rest]
    environment = {**os.environ}
    environment.pop("WANDB_SERVICE", None)  # where the dead one was
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell is wanted


def _follow(feed: WandbTracker) -> None:
    """Feed what the run logs until it ends and says how."""
    os.set_blocking(0, False)
    while feed.told is None:
        feed.told = _told()
        if feed.take() == 0 and feed.told is None:
            time.sleep(_POLL_SECONDS)


def _outcome(folder: Path) -> int:
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads((folder / "outcome.json").read_text(encoding="utf-8"))["exit_code"])
    return 1


@contextmanager
def _feeder_lock(folder: Path) -> Iterator[None]:
    """Wait for an earlier attempt's feeder, which may outlive its launcher: two at once would count the same rows."""
    with (folder / "wandb.lock").open("w") as lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _set_aside_offline(folder: Path) -> None:
    """The whole record is sent or written again: what is superseded must not be synced as well."""
    for old in sorted((folder / "wandb").glob("offline-run-*")):
        if any(old.glob("*.synced")):
            (folder / _SENT_MARKER).touch()
        aside = folder / "wandb-superseded"
        aside.mkdir(exist_ok=True)
        number = sum(1 for _ in aside.iterdir())  # two of the same second have the same name
        old.rename(aside / f"{old.name}-{number}")


def _number(event: dict[str, Any]) -> int:
    """W&B's step of a row: a function of the training step, in which an epoch's row follows that of its last step."""
    return 2 * int(event["step"]) + int(event["event"] == "epoch")


def _last_row_step(folder: Path) -> int:
    """The largest number in the record; -1 where there is none."""
    events = read_events(folder / "metrics.jsonl")
    return max((_number(event) for event in events if event["event"] in _TRACKED_EVENTS), default=-1)


def _told() -> int | None:
    """What stdin says: None while the run goes on, 1 when whoever writes to it is gone without a word."""
    try:
        text = os.read(0, 64)
    except BlockingIOError:
        return None
    return int(text) if text.strip().isdigit() else 1


class WandbTracker:
    """The W&B run, begun with the first event, so that a run that never started leaves none."""

    def __init__(self, folder: Path, kept: int) -> None:
        self._folder = folder
        self._last_kept_row = kept
        self._file: TextIO | None = None
        self._pending = ""
        self._run: Any = None
        self._next = 0
        """The first number that W&B does not have."""
        self.told: int | None = None
        """The run's exit status, once it is over."""
        self.fell_back = False
        """Whether W&B was to be online and could not be reached."""

    def take(self) -> int:
        """Log what has been written since; the number of events."""
        path = self._folder / "metrics.jsonl"
        if self._file is None and path.exists():
            self._file = path.open(encoding="utf-8")
        taken = 0
        while self._file is not None and (text := self._file.readline()):
            self._pending += text
            if self._pending.endswith("\n"):
                event, self._pending = json.loads(self._pending), ""
                self._log(event)
                taken += 1
        return taken

    def _log(self, event: dict[str, Any]) -> None:
        if self._run is None:
            self._begin(read_spec(self._folder / "spec.json"))
        if event["event"] in _TRACKED_EVENTS and _number(event) >= self._next:
            values = {key: value for key, value in event.items() if key not in ("time", "event")}
            self._run.log(values, step=_number(event), commit=True)

    def _begin(self, spec: RunSpec) -> None:
        """Begin as asked; offline where the server cannot be reached, so that nothing is lost."""
        import wandb

        mode = choose_mode(spec.config.wandb)
        try:
            self._run = self._online(spec) if mode == "online" else self._offline(spec)
        except Exception as error:
            if mode != "online":
                raise
            sys.stderr.write(f"W&B cannot be reached, recording offline: {error}\n")
            wandb.teardown()  # its service still holds the run's id
            self._run, self.fell_back = self._offline(spec), True
        self._next = self._run.starting_step

    def _online(self, spec: RunSpec) -> Any:
        """The run, without rows after number ``kept`` where the server can forget them.

        Few can: ``resume_from`` is a preview on W&B's own servers and missing on others. Elsewhere those rows stay
        and are not sent again, which is the same to the bit unless the processes or ``log.`` have changed.
        """
        import wandb

        run = _start(spec, self._folder, "online")
        (self._folder / _SENT_MARKER).touch()
        if self._last_kept_row < 0 or run.starting_step <= self._last_kept_row + 1:
            return run
        run.finish()
        try:
            return _start(
                spec, self._folder, "online", resume_from=f"{spec.wandb_id}?_step={self._last_kept_row}"
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the run can go on without
            sys.stderr.write(f"W&B keeps what was logged after the checkpoint: {error}\n")
            wandb.teardown()
            return _start(spec, self._folder, "online")

    def _offline(self, spec: RunSpec) -> Any:
        """A record of its own; not where W&B has rows already: `wandb sync` would append them all once more."""
        if (self._folder / _SENT_MARKER).exists():
            sys.exit("W&B has a part of this run: the rest is not recorded offline, but can be sent later")
        return _start(spec, self._folder, "offline")

    def finish(self) -> None:
        """Close the run as what it was: 0 is finished, anything else failed."""
        if self._run is not None:
            self._run.finish(exit_code=self.told)


def _start(spec: RunSpec, folder: Path, mode: Mode, *, resume_from: str | None = None) -> Any:
    import wandb

    config = spec.config.wandb
    settings = wandb.Settings(
        console="off", silent=True, save_code=False, disable_git=True, x_disable_stats=True, init_timeout=20
    )
    run = wandb.init(
        project=config.project,
        entity=config.entity,
        name=spec.run,
        id=spec.wandb_id,
        dir=folder,
        mode=mode,
        resume=None if resume_from else "allow",
        resume_from=resume_from,
        config=spec.config.model_dump(mode="json"),
        settings=settings,
    )
    run.define_metric("*", step_metric="step")
    return run


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

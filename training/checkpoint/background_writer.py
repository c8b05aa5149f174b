"""Writes checkpoints in the background, from a copy on the host: training waits for the copy alone."""

from __future__ import annotations

import copy
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError

from ...data.common import LockstepError, MachineError, RankLostError, TrainingError, os_error_hint
from ..rank import Group
from ..tracking import EventLog
from .best_link import link_best
from .layout import aside_path, checkpoint_path, list_checkpoints, step_of, temporary_path
from .manifest import is_in_place
from .retention import superseded
from .sharded_writing import total_bytes, write_sharded
from .storage import CheckpointContents, Tensors, remove_checkpoint, remove_leftovers, write_checkpoint

_THREAD = "checkpoint"
_NICENESS = 10  # the steps need the processors more


def wait_for_checkpoint() -> None:
    """Wait for a checkpoint that is being written: the error that ends this process does not concern it."""
    for thread in threading.enumerate():
        if thread.name == _THREAD:
            thread.join()


class CheckpointWriter:
    """One checkpoint at a time: one that comes while another is being written waits for it.

    Args:
        folder: the run's ``checkpoints``.
        events: rank 0's record.
        fence: raises where another attempt has taken the run over.
        keep_last: checkpoints that stay, besides the best; None is all.
        ranks: that write together, with a channel for this alone; None where rank 0 writes all of it. Collective then.
    """

    def __init__(
        self,
        folder: Path,
        events: EventLog,
        fence: Callable[[], None],
        keep_last: int | None,
        ranks: Group | None = None,
    ) -> None:
        self._ranks = ranks
        # The folder that ranks of several machines write into; of another attempt it is another one.
        self._name = "" if ranks is None else ranks.gather_bytes(secrets.token_hex(8).encode())[0].decode()
        self._folder = folder
        self._events = events
        self._fence = fence
        self._keep_last = keep_last
        self._staging = _HostStaging()
        self._thread: threading.Thread | None = None
        self._failure: str | None = None
        """Why the last one could not be written; None where it could."""
        self._remedy = ""
        self._lost: Exception | None = None
        self._committed: int | None = None
        self._warned = False
        self._damaged: set[int] = set()

    @property
    def is_shared(self) -> bool:
        """Say whether every rank writes."""
        return self._ranks is not None

    def open(self, step: int | None = None) -> list[str]:
        """Remove what a killed attempt left half written, and set aside what is not of this run and its step.

        Args:
            step: where the run resumes from; later checkpoints were passed over as damaged, and must not count as
                those that stay. None where nothing is known.

        Returns:
            For users, what was set aside.
        """
        self._committed = None if step is None or step < 0 else step
        if not self._folder.exists():
            return []
        self._fence()
        remove_leftovers(self._folder)
        notes = [_set_aside(path) for path in list_checkpoints(self._folder) if not is_in_place(path)]
        there = {step_of(path) for path in list_checkpoints(self._folder)}
        self._damaged = {one for one in there if step is not None and one > step}
        return notes

    def take_over(self, step: int, last: int | None, best: set[int]) -> bool:
        """Go on in the place of a process that has died, perhaps while it was writing.

        Args:
            step: of the run; later checkpoints were passed over as damaged.
            last: step of the checkpoint that was begun last; None for none.
            best: steps whose checkpoints stay when older ones go.

        Returns:
            Whether that checkpoint is not there.

        Raises:
            RankLostError: it is not there, and no other can take its place.
        """
        self.open(step)
        there = {step_of(path) for path in list_checkpoints(self._folder)} - self._damaged
        self._committed = max(there, default=None)
        is_missing = last is not None and last not in there
        if is_missing and last in best:
            raise RankLostError(
                f"the checkpoint of step {last}, one of the best, is not there, and the process that wrote it has died",
                "resume the run, which continues from the one before; --max-restarts does that by itself",
            )
        return is_missing

    def write(self, snapshot: CheckpointContents, best: set[int]) -> None:
        """Start writing; returns as soon as the tensors may change again.

        Args:
            snapshot: its tensors are copied here; where ranks write together, this rank's part of it.
            best: steps whose checkpoints stay when older ones go.

        Raises:
            RankLostError: the one before could not be committed, because another attempt owns the run.
        """
        self._wait()
        try:
            staged, ready = self._staging.copy(snapshot)
        except (
            RuntimeError,
            MemoryError,
        ):  # no room for a copy on the host: training waits for the disk instead
            self._write(snapshot, best, None)
            return
        self._thread = threading.Thread(
            target=self._write, args=(staged, best, ready), name=_THREAD, daemon=True
        )
        self._thread.start()

    def newest(self) -> int | None:
        """Wait for what is being written; return the step of the newest that is there, None for none."""
        if self._thread is not None:
            self._thread.join()
        return self._committed

    def finish(self) -> None:
        """Wait until what was begun is on the disk.

        Raises:
            MachineError: the last one could not be written.
            RankLostError: as ``write``.
        """
        self._wait()
        if self._failure is not None:
            raise MachineError(self._failure, f"{self._remedy}, then resume the run")

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._lost is not None:
            raise self._lost

    def _write(self, snapshot: CheckpointContents, best: set[int], ready: torch.cuda.Event | None) -> None:
        """Write on the thread: no error may go unnoticed here, and only a lost run ends the training."""
        step = snapshot.state["step"]
        if threading.current_thread() is not threading.main_thread():
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)  # of this thread alone
        try:
            if ready is not None:
                ready.synchronize()
            self._commit(step, snapshot)
            if self._ranks is None or self._ranks.rank == 0:
                self._fence()
                self._damaged.discard(step)
                self._prune(step, best)
                link_best(self._folder, snapshot.state)
        except (OSError, SafetensorError) as error:
            self._failed(step, error)
        except LockstepError as error:
            self._lost = error
        except Exception as error:  # noqa: BLE001 - on a thread it would be lost, and the checkpoint with it
            left_alone = self._ranks is not None and isinstance(error, RuntimeError)  # another rank has ended
            self._lost = error if left_alone else _unforeseen(step, error)

    def _commit(self, step: int, snapshot: CheckpointContents) -> None:
        started = time.monotonic()
        final = checkpoint_path(self._folder, step)
        path = temporary_path(final, self._name)
        nbytes = snapshot.nbytes if self._ranks is None else total_bytes(snapshot, self._ranks)
        self._events.write("checkpoint_started", step=step, bytes=nbytes, path=str(path))
        self._events.sync()
        if self._ranks is None:
            write_checkpoint(self._folder, snapshot, self._fence)
        else:
            write_sharded(path, final, snapshot, nbytes, self._ranks, self._fence)
        self._failure, self._committed = None, step
        seconds = round(time.monotonic() - started, 3)
        self._events.write("checkpoint", step=step, path=final.name, bytes=nbytes, seconds=seconds)

    def _prune(self, newest: int, best: set[int]) -> None:
        """Remove old checkpoints once the new one is committed, and damaged ones that it has passed."""
        found = [step_of(path) for path in list_checkpoints(self._folder)]
        whole = [step for step in found if step not in self._damaged]
        gone = superseded(whole, self._keep_last, best)
        if self._keep_last is not None:
            gone += [step for step in found if step in self._damaged and step < newest]
        for step in gone:
            remove_checkpoint(checkpoint_path(self._folder, step))

    def _failed(self, step: int, error: Exception) -> None:
        why = getattr(error, "strerror", None) or error
        self._remedy = (os_error_hint(error) if isinstance(error, OSError) else "") or "mend the disk"
        self._failure = f"{self._folder}: the checkpoint of step {step} cannot be written: {why}"
        if not self._warned:
            self._events.write("checkpoint_failed", step=step, message=self._failure)
        self._warned = True


def _unforeseen(step: int, error: Exception) -> TrainingError:
    return TrainingError(
        f"the checkpoint of step {step} cannot be written: {type(error).__name__}: {error}",
        "it is none of the disk's errors: please report it",
    )


def _set_aside(path: Path) -> str:
    aside = aside_path(path)
    path.rename(aside)
    return f"{path} is another checkpoint than its folder says, and is kept as {aside.name}"


class _HostStaging:
    """Memory on the host, kept from one checkpoint to the next: fresh pages cost three times the copy."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], torch.Tensor] = {}

    def copy(self, snapshot: CheckpointContents) -> tuple[CheckpointContents, torch.cuda.Event | None]:
        """Return the snapshot on the host and, where it comes from a GPU, what to wait for before it is read."""
        own = snapshot.parts if snapshot.shard is None else {**snapshot.parts, "shard": snapshot.shard}
        parts = {stem: self._part(stem, tensors) for stem, tensors in own.items()}
        on_gpu = any(tensor.is_cuda for part in own.values() for tensor in part.values())
        ready = None
        if on_gpu:  # behind the copies on the stream; what the next step changes comes after them there, too
            ready = torch.cuda.Event()
            ready.record()
        return replace(snapshot, **parts, state=copy.deepcopy(snapshot.state)), ready

    def _part(self, stem: str, tensors: Tensors) -> Tensors:
        return {name: self._copied((stem, name), tensor.detach()) for name, tensor in tensors.items()}

    def _copied(self, key: tuple[str, str], tensor: torch.Tensor) -> torch.Tensor:
        held = self._held.get(key)
        if held is None or held.shape != tensor.shape or held.dtype != tensor.dtype:
            held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._held[key] = held
        return held.copy_(tensor, non_blocking=True)

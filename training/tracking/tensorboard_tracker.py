"""Writes a run's rows into ``RUN/tensorboard``, as the event files that ``tensorboard --logdir`` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import time
from typing import Any

from .rows import Row
from .tracker import TrackedRun, Tracker

_SUFFIX = ".lockstep"


class TensorboardTracker(Tracker):
    """One event file, which each attempt writes anew from the whole record.

    TensorBoard's own writer is used and not ``torch.utils.tensorboard``, which adds the import of torch to each feeder.
    """

    def __init__(self) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._make_writer = EventFileWriter

    def begin(self, run: TrackedRun) -> int:
        """Begin a file, and remove the one of the attempt before.

        The file begins with the mark of a restart at step 0, on which a TensorBoard that is running drops what it has
        read of the earlier file.
        """
        from tensorboard.compat.proto.event_pb2 import SessionLog

        folder = run.folder / "tensorboard"
        earlier = list(folder.glob(f"events.out.tfevents.*{_SUFFIX}"))
        self._writer = self._make_writer(str(folder), filename_suffix=_SUFFIX)
        self._add(time(), 0, session_log=SessionLog(status=SessionLog.START))
        self._writer.flush()
        for file in earlier:
            file.unlink(missing_ok=True)
        return 0

    def rewind(self, last_kept: int) -> int:
        """Do nothing: the file holds only what this attempt has written into it."""
        del last_kept
        return 0

    def rows(self, rows: Sequence[Row]) -> None:
        """Write each number of each row as a scalar at the row's training step."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for row in rows:
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in _scalars(row).items()]
            self._add(row.time, row.step, summary=Summary(value=values))
        self._writer.flush()  # a TensorBoard that is open shows them now

    def pictures(self, step: int, pictures: Mapping[str, Path]) -> None:
        """Write pictures."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        for name, path in pictures.items():
            with Image.open(path) as image:
                width, height, channels = image.width, image.height, len(image.getbands())
            content = Summary.Image(
                height=height, width=width, colorspace=channels, encoded_image_string=path.read_bytes()
            )
            self._add(time(), step, summary=Summary(value=[Summary.Value(tag=name, image=content)]))
        self._writer.flush()

    def end(self, exit_status: int) -> str | None:
        """Close the file."""
        del exit_status
        self._writer.close()
        return None

    def _add(self, wall_time: float, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=wall_time, step=step, **content))


def _scalars(row: Row) -> dict[str, float]:
    """Return the numbers of a row by tag.

    An epoch's row and that of its last step have the same step, at which a tag may have one value: the epoch's mean is
    ``train/loss_epoch``, as Lightning names it.
    """
    numbers = {key: value for key, value in row.values.items() if isinstance(value, int | float)}
    suffix = "" if row.event == "step" else "_epoch"
    return {
        f"{key}{suffix}" if key.startswith("train/") else key: float(value)
        for key, value in numbers.items()
        if key != "step" and not (key == "epoch" and suffix)
    }

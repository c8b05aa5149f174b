"""Decodes the chunks of a file by all cores of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from threading import Lock

from ..common import MachineError
from .decode_chunk import decode_chunk
from .decoded_file import ChunkRecord, DecodedFile
from .stored_images import StoredImages

_ALONE_SECONDS = 0.5  # what is decoded by then needs no more processes, which take 0.2 s to start


def decode_chunks(
    images: StoredImages,
    file: DecodedFile,
    chunks: Sequence[int],
    done: Callable[[ChunkRecord], None],
) -> None:
    """Decode ``chunks`` into ``file``; ``done`` is called with each, on one thread.

    Raises:
        OSError: the file cannot be written.
        MachineError: a process that decodes has died.
    """
    waiting = iter(chunks)
    until = time.monotonic() + _ALONE_SECONDS
    left = len(chunks)
    while left and (left == 1 or time.monotonic() < until):
        done(decode_chunk(images, file, next(waiting)))
        left -= 1
    if left:
        _decode_in_processes(images, waiting, min(left, len(os.sched_getaffinity(0))), file, done)


def _decode_in_processes(
    images: StoredImages,
    waiting: Iterator[int],
    count: int,
    file: DecodedFile,
    done: Callable[[ChunkRecord], None],
) -> None:
    children: list[subprocess.Popen[str]] = []
    lock = Lock()

    def take() -> int | None:
        with lock:
            return next(waiting, None)

    def finished(record: ChunkRecord) -> None:
        with lock:
            done(record)

    try:
        # On this thread: a signal on a parent's death would come when the thread ends that started the child.
        for _ in range(count):
            children.append(_start(images, file))  # noqa: PERF401 - one that has started is ended below
        with ThreadPoolExecutor(count, thread_name_prefix="decode") as pool:
            for served in as_completed([pool.submit(_serve, child, take, finished) for child in children]):
                if served.exception() is not None:
                    for child in children:
                        child.kill()
                served.result()
    finally:
        for child in children:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):  # what was not yet sent
                        stream.close()


def _start(images: StoredImages, file: DecodedFile) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "lockstep.data.images.decode_chunk"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    _tell(child, f"{images.settings.to_json()}\n{file.step}\n{file.path.parent}\n")
    return child


def _serve(
    child: subprocess.Popen[str], take: Callable[[], int | None], finished: Callable[[ChunkRecord], None]
) -> None:
    """Have one process decode chunks until none is left."""
    while (chunk := take()) is not None:
        _tell(child, f"{chunk}\n")
        answer = child.stdout.readline() if child.stdout else ""
        if answer.startswith("errno "):
            number = int(answer.split()[1])
            raise OSError(number, os.strerror(number))
        if not answer.endswith("\n"):
            raise MachineError(
                f"a process that decodes images ended with status {child.wait()} in chunk {chunk}",
                "if it was killed, the machine may be short of memory; data.cache=off decodes them in each epoch",
            )
        finished(ChunkRecord.from_json(answer))


def _tell(child: subprocess.Popen[str], text: str) -> None:
    try:
        if child.stdin:
            child.stdin.write(text)
            child.stdin.flush()
    except BrokenPipeError:  # it has died, which reading its answer shows
        return

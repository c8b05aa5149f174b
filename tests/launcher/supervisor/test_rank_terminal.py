"""Rank 0's terminal, where there is none to be had."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from lockstep.launcher.supervisor.rank_outputs import ERR, OUT, RankOutputs


def test_without_a_pseudo_terminal_rank_0_writes_to_pipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> tuple[int, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    seen: list[tuple[int, int, bytes]] = []

    class Watcher:
        def feed(self, rank: int, stream: int, data: bytes) -> None:
            seen.append((rank, stream, data))

        def mark(self, *_: Any) -> None:
            raise AssertionError

    monkeypatch.setattr(os, "isatty", lambda _: True)
    monkeypatch.setattr(os, "openpty", none_left)
    outputs = RankOutputs(tmp_path, 1, Watcher())
    outputs.open_logs()
    for writer, words in zip(outputs.streams(0), (b"out\n", b"err\n"), strict=True):
        os.write(writer, words)
    outputs.release()
    outputs.drain()
    assert seen == [(0, OUT, b"out\n"), (0, ERR, b"err\n")]
    assert (tmp_path / "rank-0.log").read_bytes() == b"out\nerr\n"

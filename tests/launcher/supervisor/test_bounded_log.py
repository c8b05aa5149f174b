"""A log that may not grow for ever: first and last part are whole, and what is missing is said."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lockstep.launcher.supervisor.bounded_log import BoundedLog
from lockstep.launcher.supervisor.rank_outputs import RankOutputs
from tests.helpers.launch import Launch, run_folder

LIMIT = 200_000
NOTE = re.compile(
    rb"\n\[launch: ([\d,]+) bytes are left out here, because a log has at most [\d.]+ MB \(log.max_mb\)\]\n"
)


def written(path: Path, lines: list[bytes], draw: random.Random, limit: int = LIMIT) -> list[str]:
    """Write lines in pieces of any length; the log is never too large. What was said of it."""
    said: list[str] = []
    log, text, at = BoundedLog(path, limit, said.append), b"".join(lines), 0
    while at < len(text):
        size = draw.randrange(1, 5000)
        log.write(text[at : at + size])
        at += size
        assert path.stat().st_size <= limit
    log.close()
    return said


def test_a_log_within_its_size_is_as_it_was_written(tmp_path: Path) -> None:
    lines = [b"%d\n" % number for number in range(20_000)]
    assert written(tmp_path / "rank-0.log", lines, random.Random(0)) == []
    assert (tmp_path / "rank-0.log").read_bytes() == b"".join(lines)


@pytest.mark.parametrize("count", [12_000, 30_000, 200_000])
def test_a_log_keeps_its_first_and_its_last_lines_and_counts_the_others(tmp_path: Path, count: int) -> None:
    path, lines = tmp_path / "rank-0.log", [b"this is line %d\n" % number for number in range(count)]
    said = written(path, lines, random.Random(count))
    first, left_out, last = NOTE.split(path.read_bytes())
    assert b"".join(lines).startswith(first)
    assert b"".join(lines).endswith(last)
    assert (first[-1:], last[:13]) == (b"\n", b"this is line ")
    assert len(first) + int(left_out.replace(b",", b"")) + len(last) == len(b"".join(lines))
    assert len(first) > LIMIT // 3
    assert len(last) > LIMIT // 5
    assert said == ["rank-0.log has reached 0.2 MB (log.max_mb): it keeps its first and its newest part"]


def test_a_line_without_end_is_kept_at_both_ends_too(tmp_path: Path) -> None:
    path, text = tmp_path / "rank-0.log", bytes(random.Random(0).choices(b"abcdefgh", k=5 * LIMIT))
    written(path, [text], random.Random(0))
    first, left_out, last = NOTE.split(path.read_bytes())
    assert text.startswith(first)
    assert text.endswith(last)
    assert len(first) + int(left_out.replace(b",", b"")) + len(last) == len(text)


def test_a_log_that_is_there_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.log"
    path.write_bytes(b"x" * (LIMIT - 10))
    said = written(path, [b"y" * 50], random.Random(0))
    assert len(said) == 1
    assert path.read_bytes().endswith(b"y" * 50)


@pytest.mark.parametrize("watched", [True, False])
def test_ranks_print_into_logs_of_that_size(tmp_path: Path, *, watched: bool) -> None:
    class Watcher:
        def __init__(self) -> None:
            self.seen = 0

        def feed(self, rank: int, stream: int, data: bytes) -> None:
            self.seen += len(data)

        def mark(self, *_: object) -> None: ...

    watcher, said = Watcher(), []
    feeling = watcher if watched else None
    outputs = RankOutputs(tmp_path, 2, feeling, first=2, max_mb=1, notify=said.append)
    assert list(tmp_path.iterdir()) == []
    outputs.open_logs()
    streams = outputs.all_streams()
    assert [len(set(three)) for three in streams] == [3, 3]
    line = b"z" * 99 + b"\n"
    for _ in range(300):
        for _, out, err in streams:
            os.write(out, line * 50)
            os.write(err, b"E" * 99 + b"\n")
        outputs.take_all()
    outputs.release()
    outputs.drain()
    for rank in (2, 3):
        text = (tmp_path / f"rank-{rank}.log").read_bytes()
        assert len(text) <= 1_000_000
        assert NOTE.search(text)
        assert b"E" * 99 in text
    assert len(said) == 2
    assert watcher.seen == (2 * 300 * 51 * 100 if watched else 0)


def test_both_streams_of_a_rank_that_nobody_sees_keep_their_order(tmp_path: Path) -> None:
    outputs = RankOutputs(tmp_path, 1, None)
    outputs.open_logs()
    ((_, out, err),) = outputs.all_streams()
    for number in range(100):
        os.write(out if number % 2 else err, b"%d\n" % number)
    outputs.take_all()
    outputs.release()
    outputs.drain()
    assert (tmp_path / "rank-0.log").read_text().split() == [str(number) for number in range(100)]


LOUD = """
for number in range(60_000):
    print("a line of the loud script", number)
print("the end")
"""


def test_a_script_that_prints_without_end_has_a_log_of_its_size_and_users_are_told_once(
    launch: Callable[..., Launch], tmp_path: Path
) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    ended = launch("run", "--cpu", "1", "--name", "loud", "--log-max-mb", "1", str(tmp_path / "loud.py"))
    assert ended.status == 0
    assert ended.err.count("rank-0.log has reached 1 MB (log.max_mb)") == 1
    log = run_folder("loud") / "attempt-1" / "rank-0.log"
    assert log.stat().st_size <= 1_000_000
    shown = launch("logs", "loud").out
    assert "a line of the loud script 0\n" in shown
    assert "bytes are left out here, because a log has at most 1 MB (log.max_mb)]" in shown
    assert "a line of the loud script 59999\n" in shown
    assert "the end\n" in shown


def test_a_training_that_prints_without_end_has_a_log_of_its_size(
    launch: Callable[..., Launch], tmp_path: Path
) -> None:
    (tmp_path / "loud.py").write_text(
        "import torch, sys\n"
        "class Loud(torch.nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        print('x' * 99_999)\n"
        "        print('an error of step', file=sys.stderr)\n"
        "        return super().forward(x)\n"
        "def model():\n"
        "    return Loud(torch.nn.Flatten(), torch.nn.Linear(784, 10))\n"
    )
    config = tmp_path / "loud.yaml"
    config.write_text("data: {use: digits}\nmodel: {use: './loud.py:model'}\n")
    options = ("train.max_steps=30", "log.max_mb=1", "wandb.mode=disabled", "--cpu", "1", "--name", "loud")
    ended = launch("train", str(config), *options)
    assert ended.status == 0, ended.err
    assert ended.err.count("rank-0.log has reached 1 MB (log.max_mb)") == 1
    log = (run_folder("loud") / "attempt-1" / "rank-0.log").read_bytes()
    assert len(log) <= 1_000_000
    assert NOTE.search(log)
    assert b"an error of step" in log

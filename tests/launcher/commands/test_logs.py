from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.data.common.errors import UsageError
from lockstep.launcher.commands import logs
from lockstep.launcher.console.line_merger import WINDOW, LineMerger, format_ranks, merge_lines
from lockstep.launcher.runs.run_folder import runs_root
from lockstep.launcher.slurm.job_log import note_job
from lockstep.launcher.supervisor.bounded_log import BoundedLog
from tests.helpers.launch import LAUNCH, WATCHDOG
from tests.helpers.run_folders import locked_by_another, make_run


def _write(name: str, attempt: int, **texts: str) -> Path:
    folder = runs_root() / name
    if not folder.exists():
        make_run(name)
    (folder / f"attempt-{attempt}").mkdir(exist_ok=True)
    for rank, text in texts.items():
        with (folder / f"attempt-{attempt}" / f"rank-{rank[1:]}.log").open("a", newline="") as file:
            file.write(text)
    return folder


def _show(name: str, *, rank: int | None = None, attempt: int | None = None) -> None:
    assert logs.show_logs(name, follow=False, rank=rank, attempt=attempt) == 0


def test_a_line_of_several_ranks_stands_there_once_with_their_ranks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _write(
        "first", 1, r0="ready\nloss 1\n\n", r1="ready\nwarning\nready\n", r2="ready\nwarning\n", r10="ready"
    )
    _show("first")
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "0-2,10 | ready",
        "    0 | loss 1",
        "  1-2 | warning",
        "    0 | ",
        "    1 | ready",
    ]
    assert captured.err == "first, attempt 1\n"
    _show("first", rank=1)
    assert capsys.readouterr().out == "ready\nwarning\nready\n"


def _document(
    capsys: pytest.CaptureFixture[str], rank: int | None = None, attempt: int | None = None
) -> dict[str, Any]:
    assert logs.show_logs("first", follow=False, rank=rank, attempt=attempt, as_json=True) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


def test_logs_as_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    _write("first", 1, r0="old\n")
    folder = _write("first", 2, r0="ready\nloss 1\n", r1="ready\n")
    (folder / "attempt-2" / "launch.log").write_text("first: 2 CPU processes\n")
    rows = [{"ranks": [0, 1], "text": "ready"}, {"ranks": [0], "text": "loss 1"}]
    known = {"schema_version": 1, "run": "first", "attempt": 2, "attempts": [1, 2], "files": []}
    assert _document(capsys) == {**known, "printed": ["first: 2 CPU processes"], "lines": rows}
    assert _document(capsys, rank=1) == {**known, "printed": [], "lines": [{"ranks": [1], "text": "ready"}]}
    assert _document(capsys, attempt=1)["lines"] == [{"ranks": [0], "text": "old"}]
    with pytest.raises(UsageError, match="no log of rank 7"):
        _document(capsys, rank=7)
    with pytest.raises(UsageError, match="--follow and --json"):
        logs.show_logs("first", follow=True, rank=None, attempt=None, as_json=True)


def test_logs_of_a_job_that_got_no_further_as_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run("first", kind="job")
    (folder / "attempt-1").rmdir()
    (folder / "slurm" / "job-7").mkdir(parents=True)
    (folder / "slurm" / "job-7.log").write_text("module: not found\n")
    (folder / "slurm" / "job-7" / "node-1.log").write_text("no GPU\n")
    found = _document(capsys)
    assert (found["attempt"], found["lines"]) == (None, [])
    assert [(Path(file["path"]).name, file["lines"]) for file in found["files"]] == [
        ("job-7.log", ["module: not found"]),
        ("node-1.log", ["no GPU"]),
    ]


def test_the_newest_attempt_is_shown_and_the_others_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for attempt in (1, 2, 10):
        _write("first", attempt, r0=f"of {attempt}\n")
    _show("first")
    assert capsys.readouterr() == ("of 10\n", "first, attempt 10; others: 1-2 (--attempt K)\n")
    _show("first", attempt=2)
    assert capsys.readouterr().out == "of 2\n"


def test_what_a_terminal_would_obey_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    link = "\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x07"
    _write("first", 1, r0=f" 10%\r 20%\r\n\x1b[31mred\x1b[0m {link}\n")
    _show("first")
    assert capsys.readouterr().out == " 20%\nred link\n"


def test_torchs_mark_of_a_rank_does_not_keep_equal_lines_apart(capsys: pytest.CaptureFixture[str]) -> None:
    _write("first", 1, r0="[rank0]: ValueError\n", r1="[rank1]: ValueError\n[rank0]: other\n")
    _show("first")
    assert capsys.readouterr().out == "  0-1 | ValueError\n    1 | [rank0]: other\n"


def test_what_is_not_there_is_refused() -> None:
    make_run("first")
    with pytest.raises(UsageError, match="no log of any rank") as caught:
        _show("first")
    assert "agent.log" in caught.value.hint
    _write("first", 1, r0="x\n", r1="x\n")
    with pytest.raises(UsageError, match="no log of rank 2") as caught:
        _show("first", rank=2)
    assert "0-1" in caught.value.hint
    with pytest.raises(UsageError, match="no attempt 3"):
        _show("first", attempt=3)
    (make_run("second") / "attempt-1").rmdir()
    with pytest.raises(UsageError, match="has no log"):
        _show("second")


def test_a_long_log_is_shown_to_its_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    _write(
        "first", 1, r0="".join(f"{n}\n" for n in range(2503)), r1="".join(f"{n}\n" for n in range(0, 2503, 2))
    )
    _show("first")
    out = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert Counter(text for ranks, text in out if "0" in ranks) == Counter(map(str, range(2503)))
    _show("first", rank=0)
    assert capsys.readouterr().out.split() == list(map(str, range(2503)))


def test_lines_that_are_far_apart_are_shown_apart() -> None:
    zero = ["x", *(f"{n}" for n in range(3 * WINDOW))]
    one = [*(f"other {n}" for n in range(3 * WINDOW)), "x"]
    assert [ranks for text, ranks in merge_lines({0: zero, 1: one}) if text == "x"] == [[0], [1]]


@given(
    st.dictionaries(st.integers(0, 5), st.lists(st.sampled_from("abc"), max_size=12), max_size=4),
    st.integers(0, 9),
)
def test_every_line_of_every_rank_is_there_as_often_as_it_was_written(
    lines: dict[int, list[str]], keep: int
) -> None:
    merger, shown = LineMerger(), []
    for _ in merger.feed_in_turns(lines):
        shown += merger.ready(keep)
    shown += merger.ready(0)
    for rank, texts in lines.items():
        assert Counter(text for text, ranks in shown if rank in ranks) == Counter(texts)
    assert all(len(set(ranks)) == len(ranks) >= 1 for _, ranks in shown)
    for rank in [rank for rank in lines if lines.keys() == {rank}]:
        assert [text for text, _ in shown] == lines[rank]


def test_ranks_are_said_shortly() -> None:
    assert [format_ranks(ranks) for ranks in ([0], [0, 2], [1, 2, 3, 7], [])] == ["0", "0,2", "1-3,7", ""]


def _follow(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LAUNCH, "logs", "first", "-f", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_following_goes_on_into_later_attempts_until_no_launcher_has_the_run() -> None:
    folder = _write("first", 1, r0="one\ntw")
    with locked_by_another(folder) as process:
        following = _follow("--rank", "0")
        assert following.stdout
        assert following.stderr
        assert following.stdout.readline() == "one\n"
        _write("first", 1, r0="o\nhalf")
        assert following.stdout.readline() == "two\n"
        _write("first", 2, r0="three\n")
        assert [following.stdout.readline() for _ in "12"] == ["half\n", "three\n"]
        _write("first", 2, r0="fo")
        process.communicate(timeout=WATCHDOG)
        rest, said = following.communicate(timeout=WATCHDOG)
    assert (rest, following.returncode) == ("fo\n", 0)
    assert said == "first, attempt 1\nfirst, attempt 2; others: 1 (--attempt K)\n"


def test_following_waits_for_the_first_log_and_joins_what_ranks_write_at_the_same_time() -> None:
    folder = make_run("first")
    (folder / "attempt-1").rmdir()
    with locked_by_another(folder) as process:
        following = _follow()
        _write("first", 1, r0="", r1="")
        assert following.stdout
        for text in ("same\n", "again\n"):
            _write("first", 1, r0=text, r1=text)
        ranks = Counter[str]()
        while ranks != Counter({"same0": 1, "same1": 1, "again0": 1, "again1": 1}):
            who, text = following.stdout.readline().strip().split(" | ")
            ranks.update({"0-1": [text + "0", text + "1"], "0": [text + "0"], "1": [text + "1"]}[who])
        process.communicate(timeout=WATCHDOG)
        assert following.communicate(timeout=WATCHDOG)[0] == ""
    assert following.returncode == 0


def test_following_a_run_that_is_over_shows_it_and_ends_as_does_one_that_nobody_reads() -> None:
    folder = _write("first", 1, r0="one\n")
    following = _follow()
    assert following.communicate(timeout=WATCHDOG)[0] == "one\n"
    with locked_by_another(folder):
        following = _follow()
        assert following.stdout
        assert following.stdout.readline() == "one\n"
        following.stdout.close()
        while following.poll() is None:
            _write("first", 1, r0="more\n")
            time.sleep(0.1)
        assert following.stderr
        following.stderr.close()


def test_the_command_needs_no_torch() -> None:
    code = (
        "import sys; from lockstep.launcher.commands import stop, status, logs\n"
        "import lockstep.launcher.cli.run_commands\n"
        "print({'torch', 'numpy', 'pydantic', 'rich', 'yaml', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def _write_node(folder: Path, start: str, node: int, text: str) -> None:
    job, _, restart = start.partition(".")
    note_job(folder, "started", job, restart=int(restart), step=0)
    (folder / f"slurm/job-{start}").mkdir(exist_ok=True)
    (folder / f"slurm/job-{start}/node-{node}.log").write_text(text)


def test_what_a_node_said_before_there_was_a_rank_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs_root() / "first"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    _write_node(folder, "5.0", 0, "error: node n1: no GPU\nhint: ask for less\n")
    (folder / "slurm/job-5.log").write_text("srun: error\n")
    _show("first")
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["srun: error", "node-0 | error: node n1: no GPU", "node-0 | hint: ask for less"]


def test_what_a_node_of_a_later_job_said_follows_the_last_attempt(capsys: pytest.CaptureFixture[str]) -> None:
    folder = _write("first", 1, r0="of 1\n")
    (folder / "job.json").write_text("{}")
    _write_node(folder, "5.0", 0, "it began\n")
    os.utime(folder / "slurm/job-5.0", (1, 1))
    _show("first")
    assert capsys.readouterr().out == "of 1\n"
    os.utime(folder / "attempt-1", (2, 2))
    _write_node(folder, "6.1", 1, "error: node n2: no GPU\n")
    _show("first")
    captured = capsys.readouterr()
    assert captured.out == "of 1\nnode-1 | error: node n2: no GPU\n"
    assert "job-6.1/node-1.log" in captured.err
    _show("first", attempt=1)
    assert capsys.readouterr().out == "of 1\n"


def test_a_log_whose_middle_is_left_out_while_it_is_followed_goes_on_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.log"
    log = BoundedLog(path, 100_000, lambda _: None)
    lines = [f"line {number}" for number in range(30_000)]
    for line in lines[:8000]:
        log.write(f"{line}\n".encode())
    tail = logs._Tail(path)
    assert list(tail.more()) == lines[:8000]
    for line in lines[8000:10_500]:
        log.write(f"{line}\n".encode())
    assert path.stat().st_size < 86_000  # it was shortened
    assert list(tail.more()) == [logs._SHORTENED]
    for line in lines[10_500:10_600]:
        log.write(f"{line}\n".encode())
    assert list(tail.more()) == lines[10_500:10_600]
    tail.close()
    log.close()


def test_what_a_trainings_terminal_saw_stands_before_what_the_ranks_wrote(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = _write("first", 1, r0="hello\n", r1="hello\n")
    (folder / "attempt-1/launch.log").write_text("first: 2 CPU processes\n    1      0.5\n")
    _show("first")
    assert capsys.readouterr().out.splitlines() == [
        "first: 2 CPU processes",
        "    1      0.5",
        "  0-1 | hello",
    ]
    _show("first", rank=0)
    assert capsys.readouterr().out == "hello\n"
    (folder / "attempt-2").mkdir()
    (folder / "attempt-2/launch.log").write_text("reading data: 5 s\n")  # it got no further
    _show("first")
    assert capsys.readouterr().out == "reading data: 5 s\n"


def test_following_a_training_shows_what_its_terminal_sees() -> None:
    folder = _write("first", 1, r0="one\n")
    (folder / "attempt-1/launch.log").write_text("a plan\n")
    with locked_by_another(folder) as process:
        following = _follow()
        assert following.stdout
        assert [following.stdout.readline() for _ in range(2)] == ["a plan\n", "    0 | one\n"]
        with (folder / "attempt-1/launch.log").open("a") as file:
            file.write("epoch 1/2\n")
        assert following.stdout.readline() == "epoch 1/2\n"
        process.communicate(timeout=WATCHDOG)
        assert following.communicate(timeout=WATCHDOG)[0] == ""

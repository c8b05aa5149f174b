"""What people see of ranks while they run: rank 0 as it is, lines of the others once, in their order."""

from __future__ import annotations

import pytest

from lockstep.launcher.failures.root_cause import Quoted
from lockstep.launcher.process.output_marks import Mark
from lockstep.launcher.supervisor import held_words
from lockstep.launcher.supervisor.live_view import LiveView
from lockstep.launcher.supervisor.rank_outputs import ERR, OUT

TRACEBACK = b"first\nTraceback\n\nDuring\n\nTraceback\nlast"


def test_equal_lines_stand_there_once_and_every_rank_keeps_its_order(
    capfd: pytest.CaptureFixture[str],
) -> None:
    view = LiveView()
    for rank in (1, 2, 3):
        view.feed(rank, ERR, TRACEBACK + b" of 2" * (rank == 2) + b"\n")
    view.close()
    assert capfd.readouterr() == (
        "",
        "".join(f"[ranks 1-3] {line}\n" for line in TRACEBACK.decode().splitlines()[:-1])
        + "[ranks 1,3] last\n[rank 2] last of 2\n",
    )


def test_rank_0_is_shown_byte_for_byte_and_others_cannot_touch_the_terminal(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    view = LiveView()
    view.feed(0, OUT, b"\xff caf\xe9 \x1b[31mred")
    view.feed(0, ERR, b"warned\n")
    view.feed(1, OUT, b"10 %\r20 %\rall \xe9 \x1b[2J\r\n")
    view.close()
    out, err = capfdbinary.readouterr()
    assert out == b"\xff caf\xe9 \x1b[31mred"
    warned, line, end = err.split(b"\n")
    assert (warned, end) == (b"warned", b"")  # no line is begun anew for a stdout that goes elsewhere
    assert line == "[rank 1] all \ufffd ".encode()


def test_a_flood_of_equal_lines_is_complete(capfd: pytest.CaptureFixture[str]) -> None:
    view = LiveView()
    for _ in range(20):
        for rank in (1, 2):
            view.feed(rank, OUT, b"again\n" * 1000)
        view.tick([])
    view.close()
    assert capfd.readouterr().err == "[ranks 1-2] again\n" * 20_000


def dying(view: LiveView, rank: int, *, kind: Mark = Mark.ERROR) -> None:
    """A rank that prints, raises, and prints while it ends."""
    view.feed(rank, ERR, f"{rank} works\n".encode())
    view.mark(rank, ERR, kind)
    view.feed(rank, ERR, f"[rank{rank}]: Traceback of {rank}\n".encode())
    view.mark(rank, ERR, Mark.END)
    view.feed(
        rank, ERR, f"{rank} at exit\n[rank{rank}]:[W1127 10:00:00 group.cpp:1] not destroyed\n".encode()
    )
    view.feed(rank, OUT, f"{rank} says goodbye\n".encode())


@pytest.mark.parametrize("cause", [0, 1, 2])
def test_only_the_traceback_of_the_cause_is_shown_and_comes_last(
    cause: int, capfd: pytest.CaptureFixture[str]
) -> None:
    view = LiveView()
    for rank in range(3):
        dying(view, rank)
    view.finish_attempt(Quoted(frozenset({cause})))
    view.close()
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert out == "0 says goodbye\n"
    words = [line for line in lines if "Traceback" in line or "destroyed" in line]
    before = "" if cause == 0 else f"[rank {cause}] "
    torchs = "[rank0]: " if cause == 0 else ""
    assert words == [
        f"{before}{torchs}Traceback of {cause}",
        f"{before}[rank{cause}]:[W1127 10:00:00 group.cpp:1] not destroyed",
    ]
    assert lines[-3:] == [words[0], f"{before}{cause} at exit", words[1]]
    for rank in range(3):  # what is no last word is never left out
        mine = "" if rank == 0 else f"[rank {rank}] "
        assert {f"{mine}{rank} works", f"{mine}{rank} at exit"} <= set(lines)
        assert rank == 0 or f"{mine}{rank} says goodbye" in lines


def test_without_a_verdict_everything_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    view = LiveView()
    for rank in range(2):
        dying(view, rank)
    view.close()
    err = capfd.readouterr().err
    assert ("[rank0]: Traceback of 0\n" in err, "[rank 1] Traceback of 1\n" in err) == (True, True)


def test_of_ranks_that_were_interrupted_as_asked_the_tracebacks_are_no_news(
    capfd: pytest.CaptureFixture[str],
) -> None:
    view = LiveView()
    dying(view, 0, kind=Mark.INTERRUPT)
    dying(view, 1)  # could not save, for instance
    view.finish_attempt(Quoted(frozenset({0, 1}), interrupts=False))
    view.close()
    err = capfd.readouterr().err
    assert ("Traceback of 0" in err, "Traceback of 1" in err) == (False, True)


def test_a_rank_that_has_failed_and_does_not_end_is_heard_after_a_while(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = LiveView()
    dying(view, 0)
    view.tick([])
    monkeypatch.setattr(held_words, "_HOLD_SECONDS", -1.0)
    view.await_cause()
    view.tick([])  # the cause is about to be known
    dying(view, 2)
    view.finish_attempt(Quoted(frozenset({2})))
    dying(view, 1)
    view.tick([])
    view.feed(1, ERR, b"later\n")
    view.finish_attempt(Quoted(frozenset({0})))
    view.close()
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if "Traceback" in line] == [
        "[rank 2] Traceback of 2",
        "[rank 1] Traceback of 1",
    ]
    assert lines[-1] == "[rank 1] later"


NATIVE = b"""[rank1]:[E1127 10:00:00.000000000 ProcessGroupNCCL.cpp:1895] [PG ID 0] watchdog: NCCL error
Exception raised from checkForNCCLErrors at ProcessGroupNCCL.cpp:2090 (most recent call first):
frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x98 (0x7f libc10.so)

terminate called after throwing an instance of 'c10::DistBackendError'
  what():  [PG ID 0] NCCL watchdog thread terminated
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_what_native_threads_write_before_they_abort_a_victim_is_left_out(
    rank: int, capfd: pytest.CaptureFixture[str]
) -> None:
    view = LiveView()
    view.feed(rank, ERR, b"before\n" + NATIVE)
    view.feed(rank, ERR, b"after\n")
    view.finish_attempt(Quoted(frozenset({2})))
    view.close()
    mine = "" if rank == 0 else "[rank 1] "
    assert capfd.readouterr().err == f"{mine}before\n{mine}after\n"


def test_a_warning_of_torch_is_shown_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    view = LiveView()
    view.feed(0, ERR, b"[rank0]:[W1127 10:00:00 group.cpp:1] take care\n")
    view.feed(0, ERR, b"more\n")
    view.close()
    assert capfd.readouterr().err == "[rank0]:[W1127 10:00:00 group.cpp:1] take care\nmore\n"


def test_a_line_without_end_is_never_cut_in_a_sequence(capfd: pytest.CaptureFixture[str]) -> None:
    view = LiveView()
    for _ in range(3000):
        view.feed(1, OUT, b"\x1b[31m\xc3\xa9" * 10)
    view.feed(1, OUT, b"\n")
    view.close()
    assert capfd.readouterr().err == f"[rank 1] {2000 * chr(233)}\n"

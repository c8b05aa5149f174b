"""What people see of ranks while they run: rank 0 as it is, lines of the others once, in their order."""

from __future__ import annotations

import pytest

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
    assert line.startswith("[rank 1] all \ufffd ".encode())
    assert b"\x1b" not in line


def test_a_flood_of_equal_lines_is_complete(capfd: pytest.CaptureFixture[str]) -> None:
    view = LiveView()
    for _ in range(20):
        for rank in (1, 2):
            view.feed(rank, OUT, b"again\n" * 1000)
        view.tick([])
    view.close()
    assert capfd.readouterr().err == "[ranks 1-2] again\n" * 20_000

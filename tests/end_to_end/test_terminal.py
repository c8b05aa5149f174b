"""Rank 0 has a terminal where the launcher has one, of the same size; the others and the logs have none of it."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.launch import LAUNCH, Launch, run_folder
from tests.helpers.readme import unfolded
from tests.helpers.script_ranks import write_script
from tests.helpers.terminal import terminal

SCRIPT = """
import os, signal, sys, time
rank = os.environ["RANK"]
tty = [stream.isatty() for stream in (sys.stdout, sys.stderr)]
width = os.get_terminal_size(1).columns if tty[0] else None
print(f"rank {rank}: {tty} {width}")
if rank == "0":
    changed = []
    signal.signal(signal.SIGWINCH, lambda *_: changed.append(os.get_terminal_size(2).columns))
    print("ready")
    while not changed:
        time.sleep(0.02)
    print("now", changed[0])
    from rich.console import Console
    from rich.progress import track
    Console().print("[red]words[/red]")
    for part in track(range(3)):
        time.sleep(0.15)
        if len(sys.argv) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
    print("out", file=sys.stdout); print("err", file=sys.stderr); print("out", file=sys.stdout)
"""


def test_bars_move_and_colours_show_on_rank_0_alone(tmp_path: Path) -> None:
    script = write_script(tmp_path, "tty.d/bar.py", SCRIPT)
    with terminal([*LAUNCH, "run", "--cpu", "2", "--name", "seen", script], 33, 77) as screen:
        screen.wait_for(b"ready")
        screen.resize(20, 50)
        assert screen.end() == 0, screen.shown
    assert b"rank 0: [True, True] 77\r\n" in screen.shown
    assert b"[rank 1] rank 1: [False, False] None\r\n" in screen.shown
    assert b"now 50\r\n" in screen.shown
    assert b"\x1b[31mwords\x1b[0m\r\n" in screen.shown
    assert screen.shown.count(b"\r\x1b[2KWorking") > 2  # it moves
    assert b"out\r\nerr\r\nout\r\n" in screen.shown  # one terminal keeps the order
    log = (run_folder("seen") / "attempt-1" / "rank-0.log").read_bytes()
    assert b"\x1b[31mwords\x1b[0m\n" in log
    assert b"\r\n" not in log
    assert log.endswith(b"out\nerr\nout\n")


def test_a_bar_that_is_killed_leaves_a_cursor(tmp_path: Path) -> None:
    script = write_script(tmp_path, "tty.d/bar.py", SCRIPT)
    with terminal([*LAUNCH, "run", "--cpu", "1", script, "fall"], 33, 77) as screen:
        screen.wait_for(b"ready")
        screen.resize(20, 50)
        assert screen.end() == 4, screen.shown
    hidden, _, after = screen.shown.rpartition(b"\x1b[?25l")
    assert hidden
    assert b"\x1b[?25h" in after
    assert b"was killed by SIGKILL" in after


def test_what_goes_elsewhere_is_no_terminal(tmp_path: Path) -> None:
    script = write_script(tmp_path, "plain.py", SCRIPT.partition('if rank == "0"')[0])
    command = ["sh", "-c", 'exec "$@" > "$OUT"', "sh", *LAUNCH, "run", "--cpu", "1", script]
    with terminal(command, 33, 77, {"OUT": str(tmp_path / "out")}) as screen:
        assert screen.end() == 0, screen.shown
    assert (tmp_path / "out").read_text() == "rank 0: [False, True] None\n"


def test_a_training_shows_where_it_stands_and_its_logs_show_what_its_terminal_saw(
    own: Path, launch: Launch
) -> None:
    command = [*LAUNCH, "train", own / "own.yaml", "--cpu", "2", "--name", "seen", "train.epochs=2"]
    with terminal(command, 24, 80, {"PYTHONIOENCODING": "utf-8"}) as screen:
        assert screen.end() == 0, screen.shown
    drawn = screen.shown.decode().split("\r\x1b[2K")
    assert "starting 2 ranks …" in drawn
    shown = [line for part in drawn for line in part.splitlines() if part.endswith("\r\n")]
    logs = launch("logs", "seen")
    told, said = (
        [" ".join(line.split()) for line in unfolded(lines)] for lines in (logs.out.splitlines(), shown)
    )
    assert told == said
    assert max(len(line) for line in shown if " " in line.strip()) <= 80  # a path is one word
    assert sum(line.startswith(("epoch ", "    1 ", "    2 ")) for line in shown) == 3
    assert said[-1].startswith("done: ")

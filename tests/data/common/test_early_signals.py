"""What signals do to a command that does not listen for them yet, and to one that was told to ignore them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.data.common import signal_name
from tests.helpers.launch import run_command

ENDS = """
import os, signal, sys
from lockstep.data.common import EndedBySignal, end_at_signals, received_signals
end_at_signals()
try:
    os.kill(os.getpid(), int(sys.argv[1]))
except EndedBySignal as ended:
    print(ended.name, received_signals() == [ended.number], received_signals())
    raise
finally:
    print("finally")
print("lived on")
"""
LOST = """
import os, signal, weakref
from lockstep.data.common import end_at_signals, received_signals
end_at_signals()
class Thing: pass
thing = Thing()
held = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
del thing  # an exception in such a callback is only printed
print(received_signals() == [signal.SIGTERM])
"""
RT = int(signal.SIGRTMIN)
NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


@pytest.mark.parametrize(
    ("number", "name"),
    [(9, "SIGKILL"), (RT, "SIGRTMIN"), (RT + 1, "SIGRTMIN+1"), (64, "SIGRTMAX"), (99, "signal 99")],
)
def test_each_signal_has_a_name_also_a_real_time_one(number: int, name: str) -> None:
    assert signal_name(number) == name


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_ends_a_command_through_every_finally(number: signal.Signals) -> None:
    ended = run_command([sys.executable, "-c", ENDS, str(int(number))])
    assert ended.returncode == 128 + number
    assert ended.stdout == f"{number.name} True []\nfinally\n"
    assert ended.stderr == ""


@pytest.mark.parametrize("number", NUMBERS)
def test_one_that_was_inherited_as_ignored_stays_ignored(number: signal.Signals) -> None:
    command = [sys.executable, "-c", ENDS, str(int(number))]
    ignored = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    )
    assert ignored.stdout == "finally\nlived on\n"


def test_one_whose_exception_was_lost_is_not_lost_itself() -> None:
    assert run_command([sys.executable, "-c", LOST]).stdout == "True\n"


def test_a_command_hears_signals_before_it_has_imported_its_options(tmp_path: Path) -> None:
    """``sitecustomize`` sends one in the middle of the import of the command line."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGUSR1)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    code = "from lockstep.launcher.cli.start import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = run_command([sys.executable, "-c", code, "--help"], env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + signal.SIGUSR1, "", "")

"""Signals on their way to the nodes of ``--hosts``: at the command, and at a host's process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lockstep.launcher.hosts.host_list import Host
from lockstep.launcher.hosts.host_process import HostProcess
from lockstep.launcher.hosts.hosts_launch import HostsLaunch
from lockstep.launcher.hosts.node_command import UserCommand


class Leader:
    """Node 0, whose launch ends at once."""

    def __init__(self) -> None:
        self.host, self.node, self.hello = Host("a"), 0, None
        self.status: int | None = None
        self.is_over, self.has_met = False, True
        self.signals: list[int] = []

    def order(self, what: str, **values: Any) -> None:
        if what == "signal":
            self.signals.append(values["number"])


class Group:
    """One host; whoever waits for it gets signals."""

    def __init__(self, *signals: int) -> None:
        self.leader = Leader()
        self.connections = self.living = [self.leader]
        self._signals = signals

    def turn(self) -> None:
        for number in self._signals:
            os.kill(os.getpid(), number)
        self.leader.status = 0


@pytest.fixture
def without_hangup() -> Iterator[None]:
    """This process, as ``nohup`` starts one."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


def _signals_of_node_0(*sent: int) -> list[int]:
    group: Any = Group(*sent)
    outputs: Any = SimpleNamespace(tick=lambda _: None, close=lambda: None, card=lambda _: [])
    before = [signal.getsignal(number) for number in sent]
    assert (
        HostsLaunch(group, outputs).run(UserCommand(["run", "a.py"], ["a.py"], "n", None, 1), "", {}, "k")
        == 0
    )
    assert [signal.getsignal(number) for number in sent] == before
    return group.leader.signals


def test_every_signal_that_ends_a_run_goes_to_node_0() -> None:
    sent = [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT]
    assert sorted(_signals_of_node_0(*sent)) == sorted(sent)


@pytest.mark.usefixtures("without_hangup")
def test_a_signal_that_nohup_ignores_ends_nothing() -> None:
    assert _signals_of_node_0(signal.SIGHUP) == []


def test_a_launch_that_a_signal_finds_half_started_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    process, sent = HostProcess(), list[int]()

    def start(*_: Any, **__: Any) -> SimpleNamespace:
        process._pass_on(signal.SIGTERM, None)
        return SimpleNamespace(stdout=None, stderr=None, send_signal=sent.append)

    monkeypatch.setattr(subprocess, "Popen", start)
    process._start({"arguments": ["run", "a.py"], "environment": {}, "key": "k"})
    os.close(process._met)
    assert sent == [signal.SIGTERM]

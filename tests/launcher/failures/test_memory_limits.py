"""Whose limit was reached: that of a control group, of one around it, or none, which leaves the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.launcher.failures import attempt_end
from lockstep.launcher.supervisor.attempt_record import AttemptRecord


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process's control group, in a hierarchy of version 2."""
    folder = tmp_path / "slice" / "job"
    folder.mkdir(parents=True)
    monkeypatch.setattr(attempt_end, "_groups", lambda: [folder])
    _write(folder)
    _write(folder.parent)
    return folder


def _write(folder: Path, oom: int = 0, oom_kill: int = 0) -> None:
    (folder / "memory.events").write_text(f"low 0\nhigh 0\nmax 9\noom {oom}\noom_kill {oom_kill}\n")


def _facts(record: AttemptRecord) -> tuple[int, bool]:
    return record.memory_facts["memory_kills"], record.memory_facts["machine_out_of_memory"]


def test_a_kill_without_a_limit_is_the_machines(group: Path) -> None:
    record = AttemptRecord([0], requires_done=True)
    assert _facts(record) == (0, False)
    _write(group, oom_kill=1)
    assert _facts(record) == (1, True)
    assert record.end().machine_out_of_memory


@pytest.mark.parametrize("around", [False, True])
def test_a_kill_at_a_limit_is_the_groups(group: Path, *, around: bool) -> None:
    record = AttemptRecord([0], requires_done=True)
    _write(group, oom=0 if around else 1, oom_kill=1)
    _write(group.parent, oom=int(around))
    assert _facts(record) == (1, False)


def test_version_1_counts_how_often_a_limit_was_reached(group: Path) -> None:
    (group / "memory.events").unlink()
    (group / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    (group / "memory.failcnt").write_text("3\n")
    record = AttemptRecord([0], requires_done=True)
    (group / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert _facts(record) == (2, True)
    (group / "memory.failcnt").write_text("4\n")
    assert _facts(record) == (2, False)


def test_what_another_node_says_of_its_memory_is_kept(group: Path) -> None:
    record = AttemptRecord([0, 1], requires_done=True)
    told = {
        "kind": "ended",
        "rank": 1,
        "status": 9,
        "time_ns": 1,
        "memory_kills": 1,
        "machine_out_of_memory": True,
    }
    record.take_remote(told, "far")
    assert record.end().remote_machines_out_of_memory == {1}

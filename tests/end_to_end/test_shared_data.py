"""A user's data() runs once on a machine, and a training is the same as where each process calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.launch import Launch, run_folder
from tests.helpers.run_records import DIGESTS
from tests.helpers.user_project import USER_CODE, train_own

CODE = USER_CODE.replace(
    "    g = torch",
    """    import os
    with open(os.environ["CALLS"], "a") as file:
        file.write("called\\n")
    g = torch""",
)


@pytest.mark.parametrize("off", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_data_is_called_once_for_all_processes(
    launch: Launch, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, off: bool
) -> None:
    (own / "own.py").write_text(CODE)
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("LOCKSTEP_CACHE", str(tmp_path / "cache"))
    once = train_own(launch, own, 2, "once")
    assert once.status == 0, once.err
    assert calls.read_text().splitlines() == ["called"]
    spec = run_folder("once") / "spec.json"
    before = spec.read_bytes()
    assert launch("eval", "once", "--cpu", "2", cwd=own).status == 0
    assert calls.read_text().splitlines() == ["called"] * 2, (
        "by the evaluation's own preparation, and by no rank"
    )
    assert spec.read_bytes() == before
    calls.write_text("called\n")
    if off:
        each = train_own(launch, own, 2, "each", "data.share=off").document
        assert [each[key] for key in DIGESTS] == [once.document[key] for key in DIGESTS]
        assert calls.read_text().splitlines() == ["called"] * 4

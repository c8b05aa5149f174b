from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lockstep.launcher.runs.stop_requests import (
    clear_requests,
    is_request_pending,
    is_stopping,
    read_stop_reason,
    record_stop_reason,
    take_request,
    write_request,
)


def test_a_request_is_taken_once_and_stays_on_record(tmp_path: Path) -> None:
    assert take_request(tmp_path) is None
    before = time.time()
    written = write_request(tmp_path, "stop")
    assert is_request_pending(tmp_path)
    assert json.loads((tmp_path / "request.json").read_text())["what"] == "stop"
    taken = take_request(tmp_path)
    assert taken == written
    assert taken is not None
    assert before <= taken.time <= time.time()
    assert "process" in taken.by
    assert (take_request(tmp_path), is_request_pending(tmp_path), is_stopping(tmp_path)) == (
        None,
        False,
        True,
    )
    clear_requests(tmp_path)
    assert (is_stopping(tmp_path), list(tmp_path.iterdir())) == (False, [])


def test_a_wish_to_stop_is_not_replaced_by_one_for_a_checkpoint(tmp_path: Path) -> None:
    stop = write_request(tmp_path, "stop")
    assert write_request(tmp_path, "checkpoint") == stop
    assert take_request(tmp_path) == stop
    write_request(tmp_path, "checkpoint")
    write_request(tmp_path, "stop")
    taken = take_request(tmp_path)
    assert taken is not None
    assert taken.what == "stop"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"what": "dance", "time": 1, "by": "x"}', '{"what": "stop"}']
)
def test_what_is_no_request_is_none_and_is_out_of_the_way(tmp_path: Path, text: str) -> None:
    (tmp_path / "request.json").write_text(text)
    assert not is_stopping(tmp_path)
    assert take_request(tmp_path) is None
    assert not is_request_pending(tmp_path)


def test_a_stop_by_signal_is_noted(tmp_path: Path) -> None:
    record_stop_reason(tmp_path, "SIGTERM")
    assert is_stopping(tmp_path)
    assert take_request(tmp_path) is None


def test_of_several_takers_one_gets_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lockstep.launcher.runs.stop_requests import take_request\n"
        "sys.stdin.read(); print(take_request(Path(sys.argv[1])) is not None)"
    )
    takers = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    write_request(tmp_path, "checkpoint")
    said = [taker.communicate(timeout=60)[0].strip() for taker in takers]
    assert sorted(said) == ["False"] * 3 + ["True"]


def test_a_run_stops_whether_its_reason_can_be_recorded_or_not(tmp_path: Path) -> None:
    record_stop_reason(tmp_path / "no folder", "SIGTERM")
    assert not is_stopping(tmp_path / "no folder")


def test_to_cancel_is_more_than_to_stop(tmp_path: Path) -> None:
    write_request(tmp_path, "stop")
    cancel = write_request(tmp_path, "cancel")
    assert write_request(tmp_path, "stop") == write_request(tmp_path, "checkpoint") == cancel
    assert is_stopping(tmp_path)
    assert take_request(tmp_path) == cancel
    assert read_stop_reason(tmp_path) == cancel.by

"""The preparation of the data as a child of the agent: its answer, its end, and where the agent must not fork."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.config import DataConfig, DatasetInfo
from lockstep.data.prepare import prepare
from lockstep.launcher.agent.data_child import DataChild
from lockstep.launcher.supervisor.data_request import DataRequest
from tests.helpers.launch import Launch

SMALL = DataConfig(use="tensors", args={"rows": 23}, val_size=3)
ENDS = "import os\ndef data():\n    print('my last words', flush=True)\n    os.kill(os.getpid(), 9)\n"


def _of_a_fresh_process(config: DataConfig, base: Path) -> tuple[str, int | None]:
    """Answer and status of a child that an agent has started which must not fork."""
    request = DataRequest()
    child = DataChild([request.of_agent.detach()], lambda _: pytest.fail("forked"))
    child.start_if_asked("threads are running")  # nothing was asked
    answer = request.ask(json.dumps({"data": config.model_dump(mode="json"), "base": str(base)}))
    child.start_if_asked("threads are running")
    with os.fdopen(answer, encoding="utf-8") as file:
        document = file.read()
    reader, writer = os.pipe()
    serving = threading.Thread(target=child.serve_until, args=(reader, lambda: "threads are running"))
    serving.start()
    status = request.exit_status()
    os.write(writer, b"order")
    serving.join()
    request.close()
    assert os.read(reader, 5) == b"order"
    os.close(reader)
    os.close(writer)
    return document, status


def test_a_fresh_process_answers_and_its_end_is_reported(tmp_path: Path) -> None:
    document, status = _of_a_fresh_process(SMALL, tmp_path)
    assert status == 0
    assert DatasetInfo.from_json(json.loads(document)["facts"]) == prepare(SMALL, tmp_path)


def test_a_fresh_process_that_is_killed_is_reported(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ENDS)
    assert _of_a_fresh_process(DataConfig(use="./mine.py:data"), tmp_path) == ("", -9)


def test_a_child_of_the_agent_that_is_killed_is_told_with_its_last_words(launch: Launch, own: Path) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + ENDS.replace("data", "killed"))
    ended = launch("train", "own.yaml", "data.use=./own.py:killed", "--cpu", "1", "--name", "x", cwd=own)
    assert ended.status == 4, ended.err
    assert ended.err.startswith("my last words\n")
    assert "the preparation of the data ended with status -9 and without an answer" in ended.err


def test_an_agent_that_has_ended_gives_neither_answer_nor_status() -> None:
    request = DataRequest()
    request.of_agent.close()
    answer: Any = request.ask("{}")
    assert os.read(answer, 1) == b""
    assert request.exit_status() is None
    os.close(answer)
    request.close()

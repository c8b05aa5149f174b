"""What a resumed run says of the place where it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.training.checkpoint.state import _notes, _numerical_environment
from lockstep.training.session.build import build_training
from tests.helpers.sessions import open_session
from tests.helpers.user_project import USER_CODE

CONFIG = """
data: {use: "./own.py:data", batch_size: 16, val_size: null}
model: {use: "./own.py:model"}
tracking: []
"""


@pytest.mark.parametrize(
    ("settings", "said"),
    [([], ["world_size was 3 and is 1: the last bits may differ"]), (["train.logical_ranks=4"], [])],
)
def test_another_number_of_processes_is_told_where_it_matters(
    tmp_path: Path, settings: list[str], said: list[str]
) -> None:
    (tmp_path / "own.py").write_text(USER_CODE)
    (tmp_path / "own.yaml").write_text(CONFIG)
    training = build_training(open_session(tmp_path / "own.yaml", settings))
    assert _notes(training, {**_numerical_environment(training), "world_size": 3}) == said
    slower = _notes(training, {**_numerical_environment(training), "threads": 77})
    assert slower == [
        f"threads was 77 and is {_numerical_environment(training)['threads']}: the last bits may differ"
    ]

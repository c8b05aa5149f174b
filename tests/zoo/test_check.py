"""``launch check`` on the zoo: what is right passes, and of what is not the cause is named, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.training.rank.process_group import Group
from tests.helpers.check_probe import not_passed, probe_project
from tests.helpers.launch import Launch
from tests.zoo.case import Case, Trains, write_project
from tests.zoo.cases import CASES

SEED = 14
SAMPLE = 3
SEVERAL = {"2 against 1", "evaluation", "resume"}  # checks that take more than one process, or attempt
TRAINED = [case for case in CASES if isinstance(case.end, Trains)]
CHOSEN = random.Random(SEED).sample(TRAINED, SAMPLE)


def _compare(found: Mapping[str, Mapping[str, Any]], expected: Mapping[str, tuple[str, str]]) -> None:
    assert {name: said["verdict"] for name, said in found.items()} == {
        name: verdict for name, (verdict, _) in expected.items()
    }, [said["what"] for said in found.values()]
    for name, (_, words) in expected.items():
        assert words in found[name]["what"]


@pytest.mark.filterwarnings("ignore")  # users' code has what torch warns of
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[] if case in CHOSEN else [pytest.mark.exhaustive])
        for case in TRAINED
    ],
)
def test_one_process_names_the_cause(case: Case, tmp_path: Path) -> None:
    write_project(case, tmp_path)
    answer = probe_project(tmp_path / "exp.yaml", Group(0, 0, 1, torch.device("cpu")), [*case.settings])
    expected = {name: said for name, said in case.check.items() if name not in SEVERAL}
    _compare(not_passed(answer), expected)


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", TRAINED, ids=lambda case: case.name)
def test_the_whole_check_names_the_cause(case: Case, launch: Launch, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    write_project(case, folder)
    result = launch("check", "exp.yaml", *case.settings, "--cpu", "2", "--json", cwd=folder)
    document = result.document
    found = {one["check"]: one for one in document["checks"] if one["verdict"] != "PASS"}
    _compare(found, case.check)
    assert result.status == int(any(verdict == "FAIL" for verdict, _ in case.check.values())), result.err

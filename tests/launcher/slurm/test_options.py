"""Which values the SLURM options take."""

from __future__ import annotations

import json

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.config.resolution import resolve
from tests.helpers.slurm.job_options import options_of


def test_memory_needs_a_unit_and_kinds_of_mail_are_known():
    assert options_of(mem="16GB").slurm.mem == "16G"
    assert options_of(mem="500m", mail_type="end,Time-Limit").slurm.mail_type == "END,TIME_LIMIT"
    for said in (
        {"mem": "16"},
        {"mail_type": "ENDD"},
        {"gpus": "all"},
        {"gpus": "0"},
        {"gpus": "idle"},
        {"gpus": "0,1"},
    ):
        with pytest.raises(UsageError, match="must be"):
            options_of(**said)


@pytest.mark.parametrize("line", ["export A_TOKEN=abc", "WANDB_API_KEY='x' true", "a\nb", "a \\", " ", "x\0"])
def test_set_up_lines_are_whole_and_hold_no_secret(line):
    with pytest.raises(UsageError, match=r"setup"):
        resolve("digits", ["slurm.setup=" + json.dumps([line])])


def test_set_up_lines_may_read_a_secret():
    line = 'export WANDB_API_KEY="$(cat ~/.key)"'
    assert resolve("digits", [f"slurm.setup={json.dumps([line])}"]).slurm.setup == (line,)


def test_a_run_without_slurm_says_nothing_of_it():
    assert resolve("digits").slurm.model_dump() == {}

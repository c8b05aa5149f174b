"""Two real ranks, one of which leaves their group without a word."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.launch import Launch
from tests.helpers.paths import ROOT
from tests.helpers.script_ranks import write_script

SCRIPT = f"""
import sys
import time
from pathlib import Path

sys.path.insert(0, {str(ROOT)!r})
import torch
import torch.distributed as dist

from lockstep.training.rank.process_group import join

group, kept, noticed = join(gpu=False), dist.group.WORLD, Path(__file__).parent / "noticed"
group.sum(torch.ones(3))
if group.rank == 0:
    group.abandon()
    while not noticed.exists():  # it lives on, and so does what it has referred to
        time.sleep(0.01)
else:
    try:
        group.sum(torch.ones(3))
    except RuntimeError as error:
        noticed.write_text(str(error))
"""


def test_who_waits_for_a_rank_that_has_abandoned_the_group_notices_it(launch: Launch, tmp_path: Path) -> None:
    script = write_script(tmp_path, "abandoned.py", SCRIPT)
    found = launch("run", "--cpu", "2", str(script), cwd=tmp_path)
    assert found.status == 0, found.err
    assert "imed out" not in (tmp_path / "noticed").read_text()

"""What a request for several hosts makes of the command line."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from lockstep.launcher.hosts.request import HostsRequest, _command

REQUEST = HostsRequest(["train", "my exp.yaml"], "a,b", None, "", None, 1, None, "my exp", shared=True)


def test_a_name_that_is_made_up_is_one_that_every_node_takes() -> None:
    assert re.fullmatch(r"my_exp-\d{8}-\d{6}", _command(REQUEST).name)
    assert len(_command(replace(REQUEST, stem="x" * 200)).name) <= 100


def test_a_run_that_has_a_name_keeps_it() -> None:
    assert _command(replace(REQUEST, name="mine")).name == "mine"
    assert not _command(replace(REQUEST, run=Path("runs/mine"))).name

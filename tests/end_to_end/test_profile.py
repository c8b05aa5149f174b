from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.launch import Launch, run_folder


@pytest.mark.exhaustive
def test_profiled_steps_leave_a_trace_of_each_rank_and_the_training_as_it_is(
    launch: Launch, own: Path
) -> None:
    asked = ("train", "own.yaml", "train.epochs=1", "--cpu", "2", "--json")
    plain = launch(*asked, "--name", "plain", cwd=own)
    profiled = launch(*asked, "--name", "profiled", "--profile", "3..9", cwd=own)
    assert profiled.status == 0, profiled.err
    assert "steps 3 to 9 " in profiled.err
    assert "waiting for data" in profiled.err
    assert "slowest: rank " in profiled.err
    traces = sorted(path.name for path in (run_folder("profiled") / "profile").iterdir())
    assert traces == ["rank-0.json.gz", "rank-1.json.gz"]
    assert profiled.document["state_sha256"] == plain.document["state_sha256"]
    refused = launch(*asked, "--profile", "9..3", cwd=own)
    assert refused.status == 2
    assert "name the steps, as 10..20" in refused.out + refused.err

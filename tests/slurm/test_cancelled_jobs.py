"""What becomes of a job that is cancelled or stopped, and what it is called afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.slurm.cluster import Cluster
from tests.helpers.slurm.paced import Paced


def _unplanned_checkpoints(run: Path) -> list[str]:
    """Those of a step at which no epoch ends."""
    names = [path.name for path in (run / "checkpoints").glob("step_*")]
    return [name for name in names if int(name.removeprefix("step_")) % 10]


def _told_of(paced: Paced, name: str) -> tuple[dict[str, Any], str, str]:
    """What ``launch status`` tells: as a document, of the run, and in the line of the table."""
    document = paced.launch("status", name, "--json").document
    (row,) = [line for line in paced.launch("status").out.splitlines() if line.startswith(f"{name} ")]
    return document, paced.launch("status", name).out, row


def test_a_cancelled_training_is_called_cancelled_and_a_stopped_one_says_what_slurm_calls_it(
    paced: Paced, slurm: Cluster
) -> None:
    """Both are in the midst of steps; cancelled is at once, without the checkpoint that SIGTERM alone would bring."""
    stopped, stopped_job = paced.submit("--time", "10min", name="stopped")
    ended, ended_job = paced.submit("--time", "10min", name="ended")
    for run in (stopped, ended):
        paced.wait_for_step(run, 20)
    cancel = paced.launch("cancel", "ended")
    assert (cancel.status, _unplanned_checkpoints(ended)) == (0, []), cancel.err + paced.told(ended)
    assert "cancelled" in cancel.err
    document, own, row = _told_of(paced, "ended")
    assert (document["status"], document["slurm"]["disagreement"]) == ("cancelled", None), document
    assert own.startswith("ended: cancelled"), own
    assert f"job {ended_job}: CANCELLED" in own or f"job {ended_job}: FAILED (so SLURM calls" in own, own
    assert "cancelled" in row, row
    assert "failed" not in own.lower().replace("failed (so slurm", ""), own

    stop = paced.launch("stop", "stopped")
    assert (stop.status, "SLURM will call its job FAILED" in stop.err) == (0, True), stop.err
    slurm.wait_for(stopped_job, "FAILED")
    document, own, row = _told_of(paced, "stopped")
    assert (document["status"], document["slurm"]["state"]) == ("stopped", "FAILED")
    assert document["slurm"]["disagreement"] is None
    assert f"job {stopped_job}: FAILED (so SLURM calls every exit status but 0; 75: stopped)" in own, own
    assert f"{stopped_job} FAILED (stopped)" in row, row
    assert json.loads((stopped / "outcome.json").read_text())["steps"] >= 20
    assert not slurm.run("squeue", "-h", "-o", "%A").split(), "nothing continues either of them"


@pytest.mark.exhaustive
@pytest.mark.parametrize("nodes", ["1", "2"])
@pytest.mark.parametrize("moment", ["start", "steps"])
def test_a_cancelled_job_is_cancelled_at_any_moment_and_can_be_resumed(
    paced: Paced, slurm: Cluster, moment: str, nodes: str
) -> None:
    run, job = paced.submit("--time", "10min", "--nodes", nodes, name="ended")
    slurm.wait_for(job, "RUNNING")
    if moment == "steps":
        paced.wait_for_step(run, 105)
    else:
        paced.wait(run, (run / f"slurm/job-{job}.log").exists, "the batch script")
    cancel = paced.launch("cancel", "ended")
    assert cancel.status == 0, cancel.err + paced.told(run)
    document, own, _ = _told_of(paced, "ended")
    assert (document["status"], document["slurm"]["disagreement"]) == ("cancelled", None), own
    assert own.rstrip().endswith("resume it with `launch resume ended`"), own
    assert [p.pid for p in psutil.process_iter(["cmdline"]) if str(run) in (p.info["cmdline"] or [])] == []
    paced.pace(0)
    assert paced.launch("resume", "ended", cwd=paced.folder).status == 0
    paced.wait_for_end(run, "finish")
    assert paced.launch("status", "ended", "--json").document["status"] == "done"

"""``launch resume`` of a run that was submitted: it goes on in SLURM, or here while SLURM has nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.launch import Launch
from tests.helpers.slurm.cluster import Cluster

GIVEN = ("own.yaml", "train.epochs=1", "--cpu", "1", "--time", "5min", "--sbatch", "hold", "--name", "a")


def _begun(own: Path, launch: Launch, *, epochs: int) -> None:
    """As if SLURM had trained the run for an epoch."""
    trained = launch("train", "own.yaml", "train.epochs=1", "--cpu", "1", "--name", "b", cwd=own)
    assert trained.status == 0, trained.err
    a, b = own.parent / "runs" / "a", own.parent / "runs" / "b"
    for name in ("spec.json", "metrics.jsonl", "outcome.json"):
        (a / name).write_bytes((b / name).read_bytes())
    (b / "checkpoints").rename(a / "checkpoints")
    (a / "outcome.json").unlink() if epochs > 1 else None


@pytest.mark.exhaustive
def test_it_goes_on_here_only_while_slurm_has_no_job_of_it(own: Path, launch: Launch, slurm: Cluster) -> None:
    sent = launch("submit", *GIVEN, "--json", cwd=own).document
    for command in (("resume", "a", "--cpu", "1"), ("resume", "a", "--local")):
        early = launch(*command)
        assert (early.status, "a has not begun" in early.err) == (2, True), early.err
    _begun(own, launch, epochs=2)
    longer = ("resume", "a", "train.epochs=2", "--cpu", "1")
    trained = ("train", "own.yaml", "train.epochs=2", "--cpu", "1", "--name", "a")
    for command in (longer, ("resume", "a", "--local"), trained, (*trained, "optimizer.lr=0.1")):
        refused = launch(*command, cwd=own)
        assert (refused.status, f"error: a has job {sent['job']}, which is PENDING" in refused.err) == (
            2,
            True,
        )
    slurm.cancel(sent["job"])
    done = launch(*longer)
    assert done.status == 0, done.err
    assert "note: a was submitted, has no job in SLURM's queue, and now continues here" in done.err
    assert "a resumes from step" in done.err


@pytest.mark.exhaustive
def test_it_goes_back_to_slurm_as_it_was_sent_and_what_cannot_be_heeded_is_refused(
    own: Path, launch: Launch, slurm: Cluster
) -> None:
    sent = launch("submit", *GIVEN, "--json", cwd=own).document
    slurm.cancel(sent["job"])
    refused = {
        ("--nodes", "1"): "--nodes",
        ("--hang-timeout", "600"): "--hang-timeout",
        ("--max-restarts=0",): "--max-restarts",
        ("train.epochs=2", "--node-rank", "1"): "train.epochs=2",
    }
    for arguments, word in refused.items():
        said = launch("resume", "a", *arguments, "--json")
        assert (said.status, said.document["status"]) == (2, "failed")
        assert f"{word} cannot be changed" in said.document["error"]["message"]
    again = launch("resume", "a", "--json")
    assert again.status == 0, again.err
    assert again.document.keys() == sent.keys()
    assert again.document | {"job": "", "expected_start": ""} == sent | {"job": "", "expected_start": ""}
    assert slurm.state(again.document["job"]) == "PENDING"
    slurm.cancel(again.document["job"])
    _begun(own, launch, epochs=1)
    done = launch("resume", "a")
    assert done.status == 2
    assert "error: a is done: after 33 steps" in done.err
    assert "`launch resume a train.epochs=N --local`" in done.err
    assert launch("resume", "a", "train.epochs=2", "--local").status == 0
    (own.parent / "runs" / "a" / "outcome.json").write_text(json.dumps({"status": "stopped"}))
    back = launch("resume", "a", "--json")
    assert back.status == 0, back.err
    assert slurm.state(back.document["job"]) == "PENDING"


def test_a_sweep_is_told_its_own_command(own: Path, launch: Launch, slurm: Cluster) -> None:
    given = (*GIVEN[:-2], "train.seed=0..1", "--name", "s", "--submit")
    sent = launch("sweep", *given, "--json", cwd=own)
    assert sent.status == 0, sent.err
    told = launch("resume", "s")
    assert (told.status, "`launch sweep s --submit`" in told.err) == (2, True), told.err
    slurm.cancel(sent.document["job"])
    assert launch("resume", "s-001").status == 0, "a point is a run"

"""``--max-restarts``: ranks that fail are started again in place, and what is trained is what would have been."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import Launch, outcome_of, run_folder
from tests.helpers.run_records import DIGESTS
from tests.helpers.script_ranks import ADDED_VARIABLES, DIFFERENT_VARIABLES, write_script
from tests.helpers.wandb_records import logged_rows

SETTINGS = ("train.epochs=4", "checkpoint.every_steps=10", "log.every_steps=5", "--cpu", "2")
SAME = (*DIGESTS, "metrics", "steps", "ranks")
FALLING = """
import os, signal
count, calls = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")), 0
falls = [tuple(map(int, fall.split(":"))) for fall in os.environ.get("FALLS", "").split()]

def falling(output, target):
    global calls
    calls += torch.is_grad_enabled()  # not those of evaluations
    if (count, int(os.environ["LOCAL_RANK"]), calls) in falls:
        os.kill(os.getpid(), signal.SIGKILL)
    return nn.functional.cross_entropy(output, target, reduction="none")
"""


@pytest.fixture
def falling(own: Path) -> Path:
    """The loss kills its rank: ``FALLS`` lists ``restart:rank:call``."""
    (own / "own.py").write_text((own / "own.py").read_text() + FALLING)
    return own


def _train(launch: Launch, own: Path, name: str, falls: str, *more: str, wandb: str = "disabled") -> Any:
    settings = ("own.yaml", "loss.use=./own.py:falling", *SETTINGS, *more, "--name", name, "--json")
    return launch("train", *settings, cwd=own, env={"FALLS": falls, "WANDB_MODE": wandb})


def _rows(name: str) -> list[tuple[str, int, float | None]]:
    events = [json.loads(line) for line in (run_folder(name) / "metrics.jsonl").read_text().splitlines()]
    return [(e["event"], e["step"], e["train/loss"]) for e in events if e["event"] in ("step", "epoch")]


def test_a_restarted_training_ends_as_one_that_never_failed(launch: Launch, falling: Path) -> None:
    whole = _train(launch, falling, "whole", "")
    assert whole.status == 0, whole.err
    fallen = _train(launch, falling, "fallen", "0:1:47", "--max-restarts", "1", wandb="offline")
    assert fallen.status == 0, fallen.err
    assert {key: fallen.document[key] for key in SAME} == {key: whole.document[key] for key in SAME}
    assert "rank 1 of 2 was killed by SIGKILL" in fallen.err
    assert ": restart 1 of 1 from step 40" in fallen.err
    assert "error: " not in fallen.err
    assert _rows("fallen") == _rows("whole")
    sent = [(row["step"], row["train/loss"]) for row in logged_rows(run_folder("fallen"))]
    assert sent == [(step, loss) for _, step, loss in _rows("whole")]
    assert (run_folder("fallen") / "owner").read_text() == "attempt-2\n"
    assert (run_folder("fallen") / "attempt-2" / "rank-1.log").exists()


@pytest.mark.exhaustive
def test_after_the_last_restart_the_card_is_that_of_the_last_failure(launch: Launch, falling: Path) -> None:
    result = _train(launch, falling, "twice", "0:1:47 1:0:2", "--max-restarts", "1")
    assert result.status == 4, result.err
    assert result.err.count(": restart 1 of 1 from step 40") == 1
    card = result.err[result.err.rindex("error: ") :]
    assert card.startswith("error: rank 0 of 2 was killed by SIGKILL"), result.err
    assert "attempt-2/rank-0.log" in card
    assert outcome_of("twice")["status"] == "failed"
    resumed = launch("resume", "twice", "--cpu", "2", cwd=falling)
    assert resumed.status == 0, resumed.err
    assert (run_folder("twice") / "attempt-3").is_dir()


@pytest.mark.exhaustive
def test_what_would_fail_again_is_not_restarted(launch: Launch, own: Path) -> None:
    settings = ("own.yaml", "checkpoint.monitor=val/absent", "checkpoint.keep_best=1", "--max-restarts", "3")
    result = launch("train", *settings, "--name", "wrong", cwd=own)
    assert result.status == 2, result.err
    assert "restart" not in result.err
    assert not (run_folder("wrong") / "attempt-2").exists()


SCRIPT = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
import torch, torch.distributed as dist

rank, count = os.environ["RANK"], int(os.environ["TORCHELASTIC_RESTART_COUNT"])
here = Path(sys.argv[1])
for pid in here.glob("child-*"):  # grandchildren of the attempts before
    assert not Path("/proc", pid.read_text()).exists(), "an earlier attempt's process lives"
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
assert total.item() == 2
(here / f"environment-{count}-{rank}").write_text(json.dumps(dict(os.environ)))
if count < 2:
    children = [subprocess.Popen(["sleep", "600"], start_new_session=True)]
    (here / f"child-{count}-{rank}").write_text(str(children[0].pid))
    dist.barrier()
    if rank == "1":
        print(f"falling {count}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)
print(f"done {count}")
dist.destroy_process_group()
"""


def test_a_script_that_fails_twice_and_then_ends_well(launch: Launch, tmp_path: Path) -> None:
    script = write_script(tmp_path, "falls.py", SCRIPT)
    result = launch("run", "--cpu", "2", "--max-restarts", "2", "--name", "falls", str(script), str(tmp_path))
    assert result.status == 0, result.err
    assert result.out == "done 2\n"
    assert ": restart 1 of 2\n" in result.err
    assert ": restart 2 of 2\n" in result.err
    logs = [(run_folder("falls") / f"attempt-{k}" / "rank-1.log").read_text() for k in (1, 2, 3)]
    assert logs == ["falling 0\n", "falling 1\n", "done 2\n"]
    assert outcome_of("falls")["status"] == "done"


@pytest.mark.exhaustive
def test_restarted_ranks_find_the_environment_that_torchruns_find(launch: Launch, tmp_path: Path) -> None:
    text = "import json, os, sys\ncount = os.environ['TORCHELASTIC_RESTART_COUNT']\n"
    text += (
        "with open(f\"{sys.argv[1]}-{os.environ['RANK']}\", 'w') as file: json.dump(dict(os.environ), file)\n"
    )
    script = write_script(tmp_path, "probe.py", text + "sys.exit(count != '1')\n")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1"]
    subprocess.run([*torchrun, str(script), str(tmp_path / "theirs")], check=True, capture_output=True)
    ours = launch("run", "--cpu", "2", "--max-restarts", "1", str(script), str(tmp_path / "ours"))
    assert ours.status == 0, ours.err
    for rank in range(2):
        left, right = (json.loads((tmp_path / f"{who}-{rank}").read_text()) for who in ("theirs", "ours"))
        assert right.keys() - left.keys() <= ADDED_VARIABLES
        assert left.keys() - right.keys() <= {"COLUMNS", "LINES"}  # where a terminal is near, of readline
        same = (left.keys() & right.keys()) - DIFFERENT_VARIABLES - {"PWD", "OLDPWD"}
        assert {key: right[key] for key in same} == {key: left[key] for key in same}
        assert right["TORCHELASTIC_RESTART_COUNT"] == right["TORCHELASTIC_MAX_RESTARTS"] == "1"

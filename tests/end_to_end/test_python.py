"""``import lockstep`` in a script whose functions and objects are its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import lockstep
from lockstep.data.common.errors import LockstepError, UsageError
from lockstep.launcher.api.training import _config_file
from tests.helpers.launch import WATCHDOG
from tests.helpers.run_folders import make_run, step_event

SCRIPT = """
import json
import sys

import torch
from torch import nn

import lockstep

x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
y = (x.sum(1) > 1).long()
torch.manual_seed(3)
net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))


def loss(output, target):
    return nn.functional.cross_entropy(output, target, reduction="none")


def recall(output, target):
    return (output.argmax(1) * target).sum(), target.sum()


class OwnError(Exception):
    pass


def work(start, factor=1):
    import torch.distributed as dist

    dist.init_process_group("gloo")
    if factor == 0 and dist.get_rank() == 1:
        raise OwnError("own", start)
    total = torch.tensor(float(factor * (dist.get_rank() + start)))
    dist.all_reduce(total)
    return {"rank": dist.get_rank(), "total": total}


if sys.argv[1] == "train":
    run = lockstep.train(
        {"data": {"batch_size": 20}, "optimizer": {"use": "adam", "lr": 0.01}, "train": {"epochs": 1}},
        model=net,
        data={"train": (x[100:], y[100:]), "val": (x[:100], y[:100])},
        loss=loss,
        metrics=["accuracy", recall],
        cpu=2,
        name="own",
    )
    trained = run.load_model()
    before = (net(x[:100]).argmax(1) == y[:100]).double().mean()
    right = (trained(x[:100]).argmax(1) == y[:100]).double().mean()
    row = run.metrics[run.metrics.event == "epoch"].iloc[-1]
    print(json.dumps([run.name, run.status, right.item(), row["val/accuracy"], row["val/recall"], before.item()]))
else:
    results = lockstep.launch(work, (1,), {"factor": 2}, processes=3)
    try:
        lockstep.launch(work, (5,), {"factor": 0}, processes=2)
    except OwnError as error:
        print(json.dumps([[r["rank"] for r in results], results[2]["total"].item(), error.args, error.__notes__]))
"""


def _run(tmp_path: Path, what: str) -> list[object]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, what],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_scripts_objects_are_trained_and_the_run_comes_back(tmp_path: Path) -> None:
    name, status, right, accuracy, recall, before = _run(tmp_path, "train")
    assert (name, status) == ("own", "done")
    assert right == pytest.approx(accuracy)
    assert 0 <= recall <= 1
    assert right != before


def test_every_ranks_result_comes_back_or_the_culprits_exception(tmp_path: Path) -> None:
    ranks, total, arguments, notes = _run(tmp_path, "launch")
    assert ranks == [0, 1, 2]
    assert total == 2 * (1 + 2 + 3)
    assert arguments == ["own", 5]
    (note,) = notes
    assert note.startswith("raised on rank 1:\nTraceback")
    assert "in work" in note


def test_a_rank_that_is_killed_is_told_of() -> None:
    def end() -> None:
        os.kill(os.getpid(), 9)

    with pytest.raises(LockstepError, match="rank 0 of 1 was killed by SIGKILL"):
        lockstep.launch(end, processes=1)


def test_what_cannot_be_launched_or_trained_is_refused() -> None:
    with pytest.raises(UsageError, match="one of them says how many ranks"):
        lockstep.launch(print, processes=1, gpus=1)
    with pytest.raises(UsageError, match="at least one"):
        lockstep.launch(print, processes=0)
    with pytest.raises(UsageError, match="print: it or an argument cannot be sent"):
        lockstep.launch(print, (threading.Lock(),))
    with pytest.raises(UsageError, match="a file's settings and objects do not go together"):
        lockstep.train("digits", model=print)
    with pytest.raises(UsageError, match="loss: list cannot be called"):
        lockstep.train({}, loss=[1])
    with pytest.raises(UsageError, match="cannot be sent to the ranks"):
        lockstep.train({"train": {"epochs": object()}}, model=print)


def test_a_loss_object_of_torch_is_named_instead() -> None:
    from torch import nn

    with pytest.raises(UsageError, match="loss: an object of CrossEntropyLoss") as caught:
        lockstep.train({}, loss=nn.CrossEntropyLoss())
    assert '"torch.nn:CrossEntropyLoss"' in caught.value.hint


def test_names_stay_names_and_settings_stay_beside_objects() -> None:
    assert _config_file("mnist", {}, None) == ["mnist"]
    assert _config_file(None, {}, None) == []
    (path,) = _config_file(
        {"model": {"args": {"width": 3}}, "loss": "mse"}, {"model": dict}, ["accuracy", max]
    )
    written = json.loads(Path(path).read_text())
    assert written == {
        "model": {"args": {"width": 3}, "use": "./objects.py:model"},
        "loss": {"use": "mse"},
        "metrics": ["accuracy", {"use": "./objects.py:metric_1", "name": "max"}],
    }


def test_runs_are_objects_with_their_record() -> None:
    folder = make_run(
        "one", step_event(5), step_event(10, loss=0.25), outcome={"status": "done", "exit_code": 0}
    )
    (folder / "spec.json").write_text('{"config": {"train": {"epochs": 2}}}')
    make_run("script", kind="run")
    (run,) = lockstep.runs()
    assert (run.name, run.status, run.outcome["exit_code"]) == ("one", "done", 0)
    assert run.config == {"train": {"epochs": 2}}
    assert run.metrics["train/loss"].tolist() == [0.5, 0.25]
    with pytest.raises(UsageError, match="no such run"):
        lockstep.load_model("none")


def test_the_public_names_are_there_and_importing_them_needs_no_torch() -> None:
    assert all(hasattr(lockstep, name) for name in lockstep.__all__)
    code = (
        "import sys, lockstep; lockstep.train, lockstep.launch, lockstep.runs, lockstep.load_model\n"
        "print({'torch', 'pandas', 'cloudpickle'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    command = [sys.executable, "-P", "-m", "lockstep", "--version"]
    version = subprocess.run(command, capture_output=True, text=True, check=True)
    assert version.stdout == f"{lockstep.__version__}\n"

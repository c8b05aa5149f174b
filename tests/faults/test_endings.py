"""How runs end when someone else ends them: exits, closed pipes, signals, other data, numbers that are none."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.numpy import load_file

from tests.helpers.launch import LAUNCH, WATCHDOG, Launch, outcome_of, run_folder

CARD = 12  # lines
SLEEP = 300  # seconds, longer than any test
PLANTED = f"""
import os, sys, time
from pathlib import Path
import numpy as np

class After(nn.Module):
    '''Calls a function of (call, output) after each forward.'''
    def __init__(self, after):
        super().__init__()
        self.layer, self.after, self.calls = nn.Linear(7, 2), after, 0
    def forward(self, x):
        self.calls += 1
        return self.after(self.calls, self.layer(x))

def leaver():
    leaves = os.environ.get("RANK") == "1"
    return After(lambda calls, y: sys.exit(0) if leaves and calls == 20 else y)
def flat(): return After(lambda calls, y: y[:, 0])
def pickled():
    class Pickled(After):
        def get_extra_state(self): return {{"a": 1}}
        def set_extra_state(self, state): pass
    return Pickled(lambda calls, y: y)
def complex():
    made = model()
    made.register_buffer("phase", torch.zeros(2, dtype=torch.complex128))
    return made
def full_disk():
    (Path(os.environ["LOCKSTEP_ATTEMPT_DIR"]).parent / "checkpoints").touch()
    return model()

def sleeping():
    if mark := os.environ.get("MARK"):
        Path(mark + ".new").write_text(str(os.getpid()))
        os.rename(mark + ".new", mark)
        time.sleep({SLEEP})
    return data()
def unseeded():
    x = torch.from_numpy(np.random.default_rng().normal(size=(1009, 7)))
    return {{"train": (x, (x.sum(1) > 0).long()), "val": (x[:211], (x[:211].sum(1) > 0).long())}}
def named_classes():
    names = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
    number = {{name: index for index, name in enumerate(list(set(names)))}}
    x = data()["train"][0]
    y = torch.tensor([number[names[row]] for row in x.argmax(1).tolist()])
    return {{"train": (x[:798], y[:798]), "val": (x[798:], y[798:])}}
def seven(): return nn.Linear(7, 7)
def one_nan(position=95):
    from lockstep.data.order.sample_order import permute
    splits = data()
    splits["train"][0][int(permute(np.array([position]), 1009, (0, 0))[0])] = float("nan")
    return splits
def numbers():
    return {{name: (x, x.sum(1)) for name, (x, _) in data().items()}}
def unlabelled_batch():
    '''Of the second batch of 31 no sample has a target.'''
    from lockstep.data.order.sample_order import permute
    splits = numbers()
    splits["train"][1][permute(np.arange(31, 62), 1009, (0, 0))] = -1000
    return splits
def columns():
    return {{name: (x, y[:, None]) for name, (x, y) in data().items()}}
def only_train(): return {{"train": data()["train"]}}
class Fragile(torch.utils.data.Dataset):
    def __init__(self, pair): self.pair = pair
    def __len__(self): return len(self.pair[0])
    def __getitem__(self, row):
        if row == 504: raise KeyError("my sample broke")
        return self.pair[0][row], self.pair[1][row]
def fragile(): return {{name: Fragile(pair) for name, pair in data().items()}}

def known_only(output, target):
    known = target > -500
    return ((output[:, 0] - target).square() * known).sum(), known.sum()
def column_loss(output, target):
    return nn.functional.cross_entropy(output, target[:, 0], reduction="none")
def loss(output, target): return (output.argmax(1) == target).sum(), len(target)
"""


def whole(case: str) -> Any:
    """A case that only the whole table has: each launch takes seconds."""
    return pytest.param(case, marks=pytest.mark.exhaustive)


@pytest.fixture
def planted(own: Path) -> Path:
    (own / "own.py").write_text((own / "own.py").read_text() + PLANTED)
    return own


def _use(section: str, name: str) -> str:
    return f"{section}.use=./own.py:{name}"


def _of_run(name: str) -> list[psutil.Process]:
    """The processes of the launch that had this mark in its environment."""
    left = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get("OF_RUN") == name and process.status() != psutil.STATUS_ZOMBIE:
            left.append(process)
    return left


def _check_none_left(name: str) -> None:
    _, alive = psutil.wait_procs(_of_run(name), timeout=10)
    assert [process.cmdline() for process in alive] == []


def test_a_rank_that_calls_exit_is_named_and_none_waits_for_it(launch: Launch, planted: Path) -> None:
    mark = str(planted)
    settings = ["own.yaml", _use("model", "leaver"), "--cpu", "2"]
    result = launch("train", *settings, env={"OF_RUN": mark}, cwd=planted)
    assert result.status == 4, result.err
    assert "sys.exit(0)" in result.err
    assert "rank 1" in result.err
    _check_none_left(mark)


@pytest.mark.parametrize("stdout", [whole("closed"), "a pipe without a reader"])
def test_a_run_goes_on_when_nobody_reads_its_rows(own: Path, stdout: str) -> None:
    command = [*LAUNCH, "train", "own.yaml", "--cpu", "1", "--name", "unread"]
    if stdout == "closed":
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as nobody:
        done = subprocess.run(
            command, cwd=own, stdout=nobody, stderr=subprocess.PIPE, text=True, timeout=WATCHDOG, check=False
        )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert outcome_of("unread")["status"] == "done"


def _end_while_preparing(folder: Path, number: signal.Signals, *, group: bool) -> tuple[int, str]:
    """Send the signal while ``data()`` runs; the status and stderr of the launch, of which nothing is left."""
    mark = folder / "preparing"
    command = [*LAUNCH, "train", "own.yaml", _use("data", "sleeping"), "--cpu", "1", "--name", "ended"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "MARK": str(mark), "OF_RUN": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + WATCHDOG
        while not mark.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child = psutil.Process(int(mark.read_text()))
        titles = child.cmdline()[1:], child.parent().cmdline()[1:3]
        (os.killpg if group else os.kill)(process.pid, number)
        try:
            _, err = process.communicate(timeout=30)
        finally:
            left = psutil.wait_procs([child], timeout=10)[1]
            for one in [*left, *_of_run(str(folder))]:
                one.kill()
        assert left == []
        of_agent = ["-u", "lockstep-agent"]  # it has imported torch, which is then imported once
        assert titles == (["-P", "-m", "lockstep.data.prepare"], of_agent)
        return process.returncode, err


@pytest.mark.parametrize(("number", "group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_during_the_preparation_leaves_nothing(
    planted: Path, number: signal.Signals, *, group: bool
) -> None:
    status, err = _end_while_preparing(planted, number, group=group)
    assert status == 128 + number
    assert "Traceback" not in err
    assert not run_folder("ended").exists()


def test_killed_during_the_preparation_the_name_can_be_used_again(launch: Launch, planted: Path) -> None:
    status, _ = _end_while_preparing(planted, signal.SIGKILL, group=False)
    assert status == -signal.SIGKILL
    again = launch(
        "train", "own.yaml", _use("data", "sleeping"), "--cpu", "1", "--name", "ended", cwd=planted
    )
    assert again.status == 0, again.err


def test_data_that_every_process_draws_anew_is_refused(launch: Launch, planted: Path) -> None:
    result = launch("train", "own.yaml", _use("data", "unseeded"), "--cpu", "2", cwd=planted)
    assert result.status == 6, result.err
    assert "returned other data" in result.err
    assert "Traceback" not in result.err


@pytest.mark.exhaustive
def test_a_set_has_the_same_order_in_every_process(
    launch: Launch, planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    monkeypatch.setenv("LOCKSTEP_TEST_START", "fresh")  # forks have the seed of hash() from where they come
    settings = [_use("data", "named_classes"), _use("model", "seven"), "--cpu", "2", "--name", "sets"]
    trained = launch("train", "own.yaml", *settings, "--json", cwd=planted)
    assert trained.status == 0, trained.err
    evaluated = launch("eval", "sets", "--json", cwd=planted)
    assert evaluated.status == 0, evaluated.err
    key = "val/accuracy"
    assert evaluated.document["metrics"][key] == trained.document["metrics"][key] > 0.5


@pytest.mark.parametrize("precision", [whole("fp32"), whole("bf16"), whole("fp16")])
def test_evaluation_has_the_precision_of_training(launch: Launch, own: Path, precision: str) -> None:
    setting = f"train.precision={precision}"
    trained = launch("train", "own.yaml", setting, "--cpu", "1", "--name", "low", "--json", cwd=own)
    assert trained.status == 0, trained.err
    evaluated = launch("eval", "low", "--json", cwd=own)
    assert evaluated.status == 0, evaluated.err
    assert evaluated.document["metrics"]["val/loss"] == trained.document["metrics"]["val/loss"]


def _check_finite(run: Path) -> None:
    """Every tensor of every checkpoint."""
    for file in run.rglob("*.safetensors"):
        for name, tensor in load_file(file).items():
            assert math.isfinite(float(abs(tensor).sum())), (file, name)


@pytest.mark.exhaustive
def test_a_batch_that_weighs_nothing_changes_nothing(launch: Launch, planted: Path) -> None:
    settings = [_use("data", "unlabelled_batch"), _use("loss", "known_only"), "optimizer.lr=0.01"]
    result = launch("train", "own.yaml", *settings, "--cpu", "2", "--json", cwd=planted)
    assert result.status == 0, result.err
    metrics = result.document["metrics"]
    assert all(value is not None and math.isfinite(value) for value in metrics.values())
    run = Path(result.document["run_dir"])
    assert list(run.rglob("model.safetensors"))
    _check_finite(run)


@pytest.mark.exhaustive
def test_weights_that_are_not_numbers_are_not_kept(launch: Launch, planted: Path) -> None:
    settings = [_use("data", "one_nan"), "checkpoint.every_steps=3", "log.every_steps=100000"]
    result = launch("train", "own.yaml", *settings, "--cpu", "1", "--name", "nan", cwd=planted)
    assert result.status == 1, result.err
    assert "step 3 " in result.err
    assert [path.name for path in sorted((run_folder("nan") / "checkpoints").iterdir())] == ["step_00000003"]
    _check_finite(run_folder("nan"))


SHAPES: dict[str, tuple[list[str], int, list[str]]] = {
    "targets in a column": (
        [_use("data", "columns"), _use("loss", "column_loss"), "metrics=[accuracy]"],
        1,
        ["accuracy", "(2, 2)", "(2, 1)"],
    ),
    "a metric called loss": (["metrics=[./own.py:loss]"], 2, ["val/loss", "taken"]),
    "a state that is not a tensor": ([_use("model", "pickled")], 1, ["_extra_state", "not a tensor"]),
    "a type that no file can hold": ([_use("model", "complex")], 1, ["phase", "complex128"]),
}


@pytest.mark.parametrize("case", [case if case == "a metric called loss" else whole(case) for case in SHAPES])
def test_what_cannot_be_measured_or_kept_is_refused(launch: Launch, planted: Path, case: str) -> None:
    settings, status, words = SHAPES[case]
    result = launch("train", "own.yaml", *settings, "--cpu", "1", cwd=planted)
    assert result.status == status, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err


@pytest.mark.exhaustive
def test_mse_takes_outputs_without_a_second_axis(launch: Launch, planted: Path) -> None:
    settings = [_use("data", "numbers"), _use("model", "flat"), "loss.use=mse", "metrics=[mae]"]
    result = launch("train", "own.yaml", *settings, "optimizer.lr=0.01", "--cpu", "1", "--json", cwd=planted)
    assert result.status == 0, result.err
    assert result.document["metrics"]["val/loss"] < 1


def test_a_sample_that_raises_in_a_loader_process_is_named(launch: Launch, planted: Path) -> None:
    settings = [_use("data", "fragile"), "data.workers=2", "--cpu", "1", "--name", "fragile"]
    result = launch("train", "own.yaml", *settings, cwd=planted)
    assert result.status == 1, result.err
    assert "Traceback" not in result.err
    card = result.err[result.err.index("error: ") :].splitlines()
    assert len(card) <= CARD
    assert "sample 504" in result.err
    assert "KeyError: 'my sample broke'" in result.err


def test_a_checkpoint_that_cannot_be_written_is_one_warning_until_the_end(
    launch: Launch, planted: Path
) -> None:
    settings = [_use("model", "full_disk"), "checkpoint.every_steps=3", "--cpu", "1", "--name", "full"]
    result = launch("train", "own.yaml", *settings, cwd=planted)
    assert result.status == 3, result.err
    assert result.err.count("warning: ") == 1
    assert str(run_folder("full") / "checkpoints") in result.err.split("error: ")[1]
    assert "Traceback" not in result.err
    events: list[dict[str, Any]] = [
        json.loads(line) for line in (run_folder("full") / "metrics.jsonl").read_text().splitlines()
    ]
    assert sum(event["event"] == "epoch" for event in events) == 2


@pytest.mark.exhaustive
def test_a_run_is_evaluated_after_its_cache_was_deleted(
    launch: Launch, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("LOCKSTEP_CACHE", str(cache))
    settings = [_use("data", "only_train"), "data.val_size=211", "--cpu", "1", "--name", "split", "--json"]
    trained = launch("train", "own.yaml", *settings, cwd=planted)
    assert trained.status == 0, trained.err
    assert [path for path in cache.rglob("*") if path.is_file()]
    shutil.rmtree(cache)
    evaluated = launch("eval", "split", "--json", cwd=planted)
    assert evaluated.status == 0, evaluated.err
    assert evaluated.document["metrics"]["val/loss"] == trained.document["metrics"]["val/loss"]
    refused = launch("eval", "split", "--cpu", "0", cwd=planted)
    assert refused.status == 2
    assert "--cpu 0" in refused.err


ROOT_AT_ZERO = """
class Rooted(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(7, 2), 0
    def forward(self, x):
        self.calls += self.training  # of 33 steps: trials before them are put back
        y = self.layer(x)
        return y + torch.sqrt((y * 0).abs()) if self.training and self.calls == 33 else y

def rooted():
    return Rooted()
"""


def test_weights_that_are_no_numbers_are_not_checkpointed_though_every_loss_was_one(
    launch: Launch, own: Path
) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + ROOT_AT_ZERO)
    settings = (
        "model.use=./own.py:rooted",
        "train.epochs=1",
        "checkpoint.every_steps=10",
        "--name",
        "rooted",
    )
    result = launch("train", "own.yaml", *settings, "--cpu", "1", cwd=own)
    assert result.status == 1
    assert "is not a number after step 33" in result.err
    folder = run_folder("rooted") / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [
        "step_00000010",
        "step_00000020",
        "step_00000030",
    ]

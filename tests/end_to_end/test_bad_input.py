"""What people get wrong: each mistake ends with one screen of words, its own exit status, and nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import (
    LAUNCH,
    Launch,
    Result,
    outcome_of,
    run_command,
    run_folder,
    runs_folder,
)

SCREEN = 24  # lines
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9") | {
    "no_proxy": "",
    "NO_PROXY": "",
}
# Model code, data and losses that break their contract, one name each.
WRONG = '''
class Careless(nn.Module):
    """Calls a function of (step, input, output) after each forward; the first calls are checks."""
    def __init__(self, after):
        super().__init__()
        self.layer, self.after, self.calls = nn.Linear(7, 2), after, 0
    def forward(self, x):
        self.calls += 1
        return self.after(self.calls, x, self.layer(x))

def few_classes(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
def one_class(): return nn.Linear(7, 1)
def scalar(): return Careless(lambda calls, x, y: y.sum())
def other_width(): return nn.Linear(5, 2)
def frozen(): return nn.Linear(7, 2).requires_grad_(False)
def with_batch_norm(): return nn.Sequential(nn.Linear(7, 11), nn.BatchNorm1d(11), nn.Linear(11, 2))
def raises_at_once(): return Careless(lambda calls, x, y: _fail("at once"))
def raises_later():
    import os
    rank = os.environ.get("RANK", "0")
    return Careless(lambda calls, x, y: _fail("later") if calls == 20 and rank == "1" else y)
def _fail(when): raise ValueError(f"my model broke {when}")
def no_module(): return "a model"

def mean_loss(output, target): return nn.functional.cross_entropy(output, target)
def mean_metric(output, target): return (output.argmax(1) == target).double().mean()

def labels(worst=7, n=1009):
    splits = data(n=n)
    splits["train"][1][n // 2] = worst
    return splits
class Rows(torch.utils.data.Dataset):
    def __init__(self, pair): self.pair = pair
    def __len__(self): return len(self.pair[0])
    def __getitem__(self, row): return self.pair[0][row], self.pair[1][row]
def label_rows(worst=7):
    return {name: Rows(pair) for name, pair in labels(worst).items()}

def one_nan(position=0):
    """The input of the sample that is trained on at ``position`` of the first epoch is not a number."""
    import numpy
    from lockstep.data.order.sample_order import permute
    splits = data()
    row = int(permute(numpy.array([position]), 1009, (0, 0))[0])
    splits["train"][0][row] = float("nan")
    return splits
'''


def whole(*values: Any) -> Any:
    """A case that only the whole table has: each trains, which takes seconds."""
    return pytest.param(*values, marks=pytest.mark.exhaustive)


def _runs() -> list[str]:
    root = runs_folder()
    return sorted(path.name for path in root.iterdir()) if root.exists() else []


def _check_words(result: Result, status: int, *words: str) -> None:
    assert result.status == status, result.err
    assert "Traceback" not in result.err
    assert "error: " in result.err
    assert len(result.err.splitlines()) <= SCREEN, result.err
    for word in words:
        assert word in result.err


def _check_refused(result: Result, status: int, *words: str) -> None:
    """Nothing was started, so nothing is there and the name is free."""
    _check_words(result, status, *words)
    assert result.out == ""
    assert _runs() == []


def _check_failed(result: Result, status: int, *words: str) -> dict[str, Any]:
    """Ranks were started: the folder stays, and says in ``outcome.json`` what ``--json`` says."""
    _check_words(result, status, *words)
    (run,) = _runs()
    outcome = outcome_of(run)
    assert outcome == result.document
    assert (outcome["status"], outcome["exit_code"]) == ("failed", status)
    assert outcome["error"]["message"].splitlines()[0] in result.err
    assert outcome["run"] == run
    return outcome


@pytest.fixture
def wrong(own: Path) -> Path:
    (own / "own.py").write_text((own / "own.py").read_text() + WRONG)
    return own


def _use(section: str, name: str) -> str:
    return f"{section}.use=./own.py:{name}"


CONFIGS: dict[str, tuple[list[str], list[str]]] = {
    "an unknown key": (["own.yaml", "train.epoch=3"], ["train.epoch", "did you mean", "epochs"]),
    "a wrong type": (["own.yaml", "train.epochs=many"], ["train.epochs", "many"]),
    "two mistakes at once": (["own.yaml", "train.epochs=0", "optimiser.lr=1"], ["train.epochs", "optimizer"]),
    "a config file that is not there": (["missing.yaml"], ["missing.yaml"]),
    "an unknown recipe": (["mnits"], ["mnits", "mnist"]),
    "an unknown data set": (["own.yaml", "data.use=digit"], ["digit", "did you mean"]),
    "no file of that name": (["own.yaml", "data.use=./owm.py:data"], ["owm.py", "own.py"]),
    "no function of that name": (["own.yaml", "data.use=./own.py:dota"], ["dota", "data"]),
    "an argument that data does not take": (["own.yaml", "data.args.m=zero"], ["own.py"]),
    "more to split off than there is": (["regression", "data.val_size=20"], ["val_size", "20"]),
    "no CPU process": (["own.yaml", "--cpu", "0"], ["--cpu 0", "at least one"]),
    "GPUs and CPU processes": (["own.yaml", "--gpus", "1", "--cpu", "1"], ["--gpus and --cpu"]),
    "GPUs that are no number": (["own.yaml", "--gpus", "many"], ["--gpus many"]),
    "a name with a slash": (["own.yaml", "--name", "../up"], ["--name ../up"]),
    "a name that is an option": (["own.yaml", "--name", "-x"], ["--name -x"]),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_wrong_request_is_refused_before_anything_starts(launch: Launch, own: Path, case: str) -> None:
    arguments, words = CONFIGS[case]
    status = 1 if case == "an argument that data does not take" else 2
    _check_refused(launch("train", *arguments, cwd=own), status, *words)


def test_gpus_that_are_not_there_are_refused(launch: Launch, own: Path) -> None:
    _check_refused(launch("train", "own.yaml", "--gpus", "4", cwd=own), 3, "--gpus 4", "--cpu N")


def test_missing_data_offline_says_which_files_belong_where(launch: Launch, tmp_path: Path) -> None:
    result = launch("train", "mnist", "--name", "first", env=OFFLINE)
    _check_refused(result, 3, "train-images-idx3-ubyte", str(tmp_path / "data"), "LOCKSTEP_DATA")


def _pictures(folder: Path, lines: list[str]) -> list[str]:
    """A folder with two pictures and a CSV of ``lines``; the settings that name them."""
    from PIL import Image

    (folder / "pics").mkdir()
    for name in ("a", "b"):
        Image.new("L", (8, 8), 7).save(folder / "pics" / f"{name}.png")
    Image.new("L", (8, 8), 7).save(folder / "outside.png")
    (folder / "list.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    return ["csv_images", "data.args.root=pics", "data.args.train_csv=list.csv", "--name", "first"]


CSVS: dict[str, tuple[list[str], list[str]]] = {
    "a picture that is not there": (["a.png,0", "b.png,1", "c.png,0"], ["list.csv:4", "c.png"]),
    "an empty label": (["a.png,0", "b.png,"], ["list.csv:3", "label is empty"]),
    "the folder itself": (["a.png,0", ".,1"], ["list.csv:3", "outside"]),
    "a path outside the root": (["a.png,0", "../outside.png,1"], ["list.csv:3", "../outside.png", "outside"]),
    "an absolute path": (["/etc/passwd,0", "b.png,1"], ["list.csv:2", "absolute"]),
    "a hundred bad rows": (["x.png,0"] * 100, ["list.csv:2", "97 more"]),
}
RARE_ROWS = ("a picture that is not there", "the folder itself", "an absolute path")


@pytest.mark.parametrize("case", [whole(c) if c in RARE_ROWS else c for c in CSVS])
def test_a_bad_row_is_named_by_file_and_line(launch: Launch, tmp_path: Path, case: str) -> None:
    lines, words = CSVS[case]
    _check_refused(launch("train", *_pictures(tmp_path, lines), cwd=tmp_path), 6, *words)


def test_a_csv_that_is_not_there_is_a_usage_error(launch: Launch, tmp_path: Path) -> None:
    settings = [*_pictures(tmp_path, []), "data.args.train_csv=lost.csv"]
    _check_refused(launch("train", *settings, cwd=tmp_path), 2, "lost.csv", "data.args.train_csv")


MODELS: dict[str, tuple[str, int, list[str]]] = {
    "a single score": (_use("model", "one_class"), 1, ["(2, 1)", "two classes or more"]),
    "a scalar": (_use("model", "scalar"), 1, ["model"]),
    "another input width": (_use("model", "other_width"), 1, ["(2, 7)", "do not fit"]),
    "no trainable parameter": (_use("model", "frozen"), 1, ["no parameter to train"]),
    "no module": (_use("model", "no_module"), 1, ["no_module", "str", "Module"]),
    "no such model": ("model.use=mpl", 2, ["mpl", "did you mean mlp"]),
    "code that raises at once": (
        _use("model", "raises_at_once"),
        1,
        ["my model broke at once", "own.py:LINE"],
    ),
    "a loss that returns a mean": (_use("loss", "mean_loss"), 1, ["a single number", "reduction='none'"]),
    "a metric that returns a mean": ("metrics=[./own.py:mean_metric]", 1, ["mean_metric", "(sum, count)"]),
}
RARE = (
    "no module",
    "no such model",
    "another input width",
    "no trainable parameter",
    "a single score",
    "a scalar",
    "code that raises at once",
    "a metric that returns a mean",
)


@pytest.mark.parametrize("case", [whole(c) if c in RARE else c for c in MODELS])
def test_a_model_loss_or_metric_that_breaks_its_contract_ends_the_run(
    launch: Launch, wrong: Path, case: str
) -> None:
    setting, status, words = MODELS[case]
    settings = [setting, "--cpu", "1", "--json"]
    words = [word.replace("LINE", str(_failing_line(wrong))) for word in words]
    _check_failed(launch("train", "own.yaml", *settings, cwd=wrong), status, *words)


def test_an_argument_that_the_model_does_not_take_is_refused_alike_by_a_dry_run(launch: Launch) -> None:
    settings = ["digits", "model.args.hiden=[3]", "--cpu", "1"]
    planned, trained = launch("train", *settings, "--dry-run"), launch("train", *settings)
    _check_refused(trained, 2, "override model.args.hiden=[3]", "did you mean hidden?")
    assert (planned.status, planned.err) == (trained.status, trained.err)


def _failing_line(folder: Path) -> int:
    """The line of ``own.py`` on which the model's code raises."""
    lines = (folder / "own.py").read_text().splitlines()
    return 1 + next(number for number, text in enumerate(lines) if "def _fail" in text)


def test_a_model_with_fewer_outputs_than_the_data_set_has_classes_is_refused(
    launch: Launch, wrong: Path
) -> None:
    settings = ["digits", "data.args={train: 30, val: 10}", _use("model", "few_classes"), "--cpu", "1"]
    _check_failed(launch("train", *settings, "--json", cwd=wrong), 1, "(2, 3)", "digits has 10 classes")


def test_code_that_raises_in_one_rank_is_named_with_rank_file_and_line(launch: Launch, wrong: Path) -> None:
    settings = [_use("model", "raises_later"), "--cpu", "2", "--json"]
    outcome = _check_failed(launch("train", "own.yaml", *settings, cwd=wrong), 1)
    assert "rank 1 of 2" in outcome["error"]["message"]
    assert "ValueError: my model broke later" in outcome["error"]["message"]
    assert f"own.py:{_failing_line(wrong)}" in outcome["error"]["message"]
    assert "rank-1.log" in outcome["error"]["hint"]
    log = Path(outcome["run_dir"]) / "attempt-1" / "rank-1.log"
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize(
    ("kind", "worst"), [whole("labels", 7), whole("labels", -1), whole("label_rows", 7), ("label_rows", -1)]
)
def test_a_label_out_of_range_is_damaged_data(launch: Launch, wrong: Path, kind: str, worst: int) -> None:
    """Read as one tensor, and sample by sample in loader processes."""
    settings = [_use("data", kind), f"data.args.worst={worst}", "--cpu", "1", "--json"]
    settings += ["data.workers=2"] if kind == "label_rows" else []
    _check_failed(launch("train", "own.yaml", *settings, cwd=wrong), 6, f"label {worst}", "504")


@pytest.mark.parametrize(
    ("position", "world", "settings"),
    [
        whole(95, 1, ["log.every_steps=2"]),
        whole(95, 1, ["log.every_steps=100000"]),
        whole(93, 2, ["log.every_steps=2"]),  # rank 0's part of the fourth step
        (123, 2, ["log.every_steps=2"]),  # rank 1's part of the fourth step
        whole(123, 3, ["data.max_micro_batch=2"]),
    ],
)
def test_a_loss_that_is_not_a_number_names_the_step(
    launch: Launch, wrong: Path, position: int, world: int, settings: list[str]
) -> None:
    data = [_use("data", "one_nan"), f"data.args.position={position}"]
    result = launch("train", "own.yaml", *data, *settings, "--cpu", str(world), "--json", cwd=wrong)
    _check_failed(result, 1, "loss is not a number", "step 4 ")


def test_batch_norm_over_a_single_sample_is_refused(launch: Launch, wrong: Path) -> None:
    settings = [_use("model", "with_batch_norm"), "data.max_micro_batch=1", "--cpu", "1", "--json"]
    _check_failed(launch("train", "own.yaml", *settings, cwd=wrong), 2, "batch norm", "max_micro_batch")


@pytest.mark.exhaustive
def test_a_taken_name_is_refused_and_the_first_run_is_left_alone(launch: Launch, own: Path) -> None:
    settings = ["own.yaml", "--cpu", "1", "--name", "taken", "train.epochs=1"]
    assert launch("train", *settings, cwd=own).status == 0
    folder = run_folder("taken")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    _check_words(launch("train", *settings, cwd=own), 2, "taken is done", "use another --name")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert _runs() == ["taken"]


@pytest.mark.parametrize(
    "arguments",
    [["train", "digits"], ["submit", "digits"], ["sweep", "digits", "train.seed=1,2"], ["status"]],
)
def test_a_folder_that_was_deleted_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.delenv("LOCKSTEP_RUNS", raising=False)
    (tmp_path / "gone").mkdir()
    script = 'cd gone && rmdir ../gone && exec "$@"'
    done = run_command(["sh", "-c", script, "sh", *LAUNCH, *arguments], cwd=tmp_path)
    said = "error: this folder has been deleted\nhint: change to one that is there\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


@pytest.mark.exhaustive
def test_a_name_is_free_again_after_a_refusal(launch: Launch, own: Path) -> None:
    settings = ["own.yaml", "--cpu", "1", "--name", "again", "train.epochs=1"]
    _check_refused(launch("train", *settings, "data.use=./own.py:nothing", cwd=own), 2, "nothing")
    assert launch("train", *settings, cwd=own).status == 0


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["own.yaml", "train.epoch=3"], 2),
        (["own.yaml", "--gpus", "4"], 3),
        (["own.yaml", "data.use=./own.py:nothing"], 2),
        whole(["own.yaml", "data.use=./own.py:nothing", "--dry-run"], 2),
    ],
)
def test_json_tells_a_refusal_as_one_document(
    launch: Launch, own: Path, arguments: list[str], status: int
) -> None:
    result = launch("train", *arguments, "--json", cwd=own)
    _check_words(result, status)
    assert (result.document["status"], result.document["exit_code"]) == ("failed", status)
    assert result.document["error"]["message"].splitlines()[0] in result.err
    assert _runs() == []


def test_evaluating_a_run_that_is_not_there_is_refused(launch: Launch, own: Path) -> None:
    _check_words(launch("eval", "nothing", cwd=own), 2, "nothing", "no such run")


def _flip(file: Path) -> None:
    """One bit of one byte near the end, where the tensors lie."""
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


@pytest.mark.exhaustive
def test_a_damaged_checkpoint_is_passed_over_by_name_and_never_used(launch: Launch, own: Path) -> None:
    trained = launch("train", "own.yaml", "--cpu", "1", "--name", "good", "--json", cwd=own)
    checkpoints = Path(trained.document["run_dir"]) / "checkpoints"
    older, newest = sorted(checkpoints.iterdir())
    _flip(newest / "model.safetensors")
    result = launch("eval", "good", "--json", cwd=own)
    assert result.status == 0, result.err
    assert result.document["checkpoint"] == older.name
    assert f"warning: passed over: {newest / 'model.safetensors'}" in result.err
    _check_words(launch("eval", "good", "--checkpoint", str(int(newest.name[5:])), cwd=own), 6, newest.name)
    (older / "model.safetensors").unlink()
    _check_words(launch("eval", "good", cwd=own), 6, "model.safetensors")
    assert [path.name for path in checkpoints.parent.glob("eval-*")] == [
        "eval-1"
    ]  # of the one that succeeded

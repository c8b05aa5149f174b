"""The blocks of the documents, run as somebody does who reads a page from its begin to its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.doc_blocks import Block, blocks_of
from tests.helpers.doc_reader import DocReader, own_files
from tests.helpers.launch import Launch, outcome_of

pytestmark = pytest.mark.exhaustive


@pytest.fixture
def reader(launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DocReader]:
    (folder := tmp_path / "reader").mkdir()
    monkeypatch.setenv("LOCKSTEP_RUNS", str(folder / "runs"))
    own_files(folder)
    reader = DocReader(launch, folder)
    yield reader
    reader.close()


def _to_run(page: str, *languages: str) -> list[Block]:
    return [block for block in blocks_of(page) if block.language in languages and not block.why_not]


def test_the_quick_start(reader: DocReader) -> None:
    begun, trained, stopped, evaluated = _to_run("docs/quick-start.md", "console")
    reader.do(begun)
    reader.folder /= "rings"
    reader.env["LOCKSTEP_RUNS"] = str(reader.folder / "runs")
    reader.do(trained)
    reader.start("launch train config.yaml --cpu 2 --name long train.epochs=100000")
    reader.wait_for_steps("long")
    reader.do(stopped)
    reader.do(evaluated)


def test_what_a_run_has_learned(reader: DocReader) -> None:
    reader.shell("launch train exp.yaml --cpu 3 --name mine && sed s/seed.0./seed\\(1\\)/ exp.py > more.py")
    for block in _to_run("docs/results.md", "console"):
        reader.do(block)
    for name in ("mine-step144.safetensors", "mine-curves.png", "batch.safetensors", "mine-report.html"):
        assert (reader.folder / name).is_file(), name


def test_processes_that_come_and_go(reader: DocReader) -> None:
    config, commands = _to_run("docs/elastic.md", "yaml", "sh")
    train, *scale = commands.commands()
    text = (reader.folder / "exp.yaml").read_text()
    (reader.folder / "exp.yaml").write_text(text.replace("train:     {epochs: 4}", config.text))
    first = reader.start(f"{train} train.epochs=1000 'loss.use=cross_entropy' 'data.batch_size=48'")
    reader.wait_for_steps("first")
    for line in scale:
        reader.shell(line)
    reader.shell("launch stop first")
    assert first.wait() == 75


def test_several_machines_by_hand_and_starters(reader: DocReader) -> None:
    by_hand, started = _to_run("docs/hosts.md", "sh")
    nodes = [reader.start(line) for line in by_hand.commands()]
    assert [node.wait() for node in nodes] == [0, 0]
    assert outcome_of("mine")["world_size"] == 2
    reader.shell("launch rm mine --yes")
    reader.env |= {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }
    reader.do(started)
    assert outcome_of("mine")["world_size"] == 4


VAE = """
from torch.nn import functional

NOISE = torch.randn(1, 2, generator=torch.Generator().manual_seed(5))


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 96

    def __getitem__(self, row):
        return {"x": torch.rand(4, generator=torch.Generator().manual_seed(row))}


def rows():
    return {"train": Rows(), "val": Rows()}


class Vae(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(2, 4)

    def encode(self, x):
        return self.body(x).chunk(2, dim=1)

    def decode(self, code):
        return self.head(code)

    def forward(self, code):
        return self.decode(code).reshape(-1, 2, 2)
"""


def test_a_step_an_optimizer_and_a_hook_as_training_shows_them(reader: DocReader) -> None:
    code = "\n\n".join(block.text for block in _to_run("docs/training.md", "python"))
    exp = reader.folder / "exp.py"
    exp.write_text(f"{exp.read_text()}\n{VAE}\n{code}")
    (reader.folder / "vae.yaml").write_text(
        "data: {use: ./exp.py:rows, batch_size: 24}\nmodel: {use: ./exp.py:Vae}\n"
        "step: {use: ./exp.py:step, args: {beta: 0.5}}\n"
        "optimizer: {use: ./exp.py:optimizer, args: {lr: 0.05}}\nhooks: {on_evaluate: ./exp.py:samples}\n"
        "metrics: [mae]\ntrain: {epochs: 2, unused: allow}\n"
    )
    reader.shell("launch train vae.yaml --cpu 2 --name vae")
    assert {"val/kl", "val/mae"} <= outcome_of("vae")["metrics"].keys()


ITERABLE = """
import torch
from torch.utils.data import IterableDataset

FILES, VAL_FILES = [range(10 * n, 10 * n + 10) for n in range(32)], [range(40), range(8)]


class Part(IterableDataset):
    def __init__(self, files):
        self.rows = [number for file in files for number in file]

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        for number in self.rows:
            yield torch.tensor([number / 320, 1.0]), number % 2
"""


def test_an_iterable_as_data_shows_it(reader: DocReader) -> None:
    (block,) = _to_run("docs/data.md", "python")
    (reader.folder / "logs.py").write_text(ITERABLE + block.text)
    reader.shell(
        "launch train exp.yaml data.use=./logs.py:data model.use=./exp.py:model --cpu 2 --name logs metrics=[accuracy]"
    )
    assert outcome_of("logs")["samples"] == 4 * 320


FROM_PYTHON = """
import torch
from exp import data, loss, model

(x, y), (x_val, y_val) = data().values()


def work(a, b):
    return a + b


if __name__ == "__main__":
"""


def test_readme_from_python(reader: DocReader) -> None:
    _, block = _to_run("README.md", "python")
    lines = block.text.replace("gpus=2", "cpu=2").splitlines()
    indented = "\n".join(f"    {line}" for line in lines)
    program = f"{FROM_PYTHON}{indented}\n    print(len(lockstep.runs()), type(net).__name__)\n"
    (reader.folder / "script.py").write_text(program)
    assert "1 Sequential" in reader.shell("python script.py")

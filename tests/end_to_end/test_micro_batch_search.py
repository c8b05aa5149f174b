"""``data.max_micro_batch: auto``: memory runs out on one rank, in training or in evaluation, and the run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.helpers.launch import Launch, run_folder
from tests.helpers.run_records import DIGESTS

CODE = """
import os

class Greedy(nn.Sequential):
    def forward(self, x):
        most = int(os.environ.get("MOST_TRAINED" if self.training else "MOST_EVALUATED", "64"))
        if len(x) > most and os.environ.get("RANK", "0") == os.environ.get("GREEDY", "1"):
            raise torch.OutOfMemoryError(f"no room for {len(x)} samples")
        return super().forward(x)

def greedy():
    return Greedy(*model())
"""
SETTINGS = ("model.use=./own.py:greedy", "data.args={n: 203, m: 101}", "checkpoint.every_steps=3")


def _train(launch: Launch, own: Path, name: str, limit: str, **env: str) -> Any:
    asked = (*SETTINGS, f"data.max_micro_batch={limit}", "--cpu", "2", "--name", name, "--json")
    done = launch("train", "own.yaml", *asked, cwd=own, env=env)
    assert done.status == 0, done.err
    return done


def _attempts(name: str) -> list[Any]:
    rows = map(json.loads, (run_folder(name) / "metrics.jsonl").read_text().splitlines())
    return [row["max_micro_batch"] for row in rows if row["event"] == "start"]


def test_a_rank_that_runs_out_of_memory_has_all_take_half_and_the_numbers_are_those_of_that(
    launch: Launch, own: Path
) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + CODE)
    found = _train(launch, own, "found", "auto", MOST_TRAINED="8")
    given = _train(launch, own, "given", "8")
    assert [found.document[key] for key in DIGESTS] == [given.document[key] for key in DIGESTS]
    assert found.document["metrics"] == given.document["metrics"]
    assert found.err.count("again with data.max_micro_batch=8") == 1
    assert _attempts("found")[-1] == 8
    again = launch(
        "resume", "found", "train.epochs=3", "--cpu", "2", "--json", cwd=own, env={"MOST_TRAINED": "8"}
    )
    assert again.status == 0, again.err
    assert "again with data" not in again.err
    assert _attempts("found")[-1] == 8


def test_an_evaluation_that_runs_out_of_memory_takes_half_and_training_goes_on_from_its_checkpoint(
    launch: Launch, own: Path
) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + CODE)
    found = _train(launch, own, "found", "auto", GREEDY="0", MOST_EVALUATED="40")
    assert "again with data.max_micro_batch=32 from step 6" in found.err
    assert found.document["metrics"]["val/count"] == 101

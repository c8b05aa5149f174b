"""Predictions of a real run: equal for any number of processes and way in, and what the evaluation measured."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.launch import WATCHDOG, Launch, run_folder
from tests.helpers.run_folders import make_run
from tests.helpers.warm_launch import start_launch

SAVE = """
import numpy as np, own
np.save("val.npy", own.data()["val"][0].numpy())
"""


@pytest.mark.usefixtures("own")
def test_predictions_are_the_evaluations_on_any_number_of_processes(launch: Launch, own: Path) -> None:
    trained = launch(
        "train", "own.yaml", "--cpu", "1", "--name", "p", "metrics=[accuracy]", "--json", cwd=own
    )
    assert trained.status == 0, trained.err
    subprocess.run([sys.executable, "-c", SAVE], cwd=own, check=True, timeout=WATCHDOG)
    three = launch("predict", "p", "--split", "val", "--cpu", "3", cwd=own)
    assert three.status == 0, three.err
    rows = list(csv.DictReader(three.out.splitlines()))
    right = sum(row["class"] == row["target"] for row in rows)
    assert len(rows) == 211
    assert right / 211 == pytest.approx(trained.document["metrics"]["val/accuracy"], abs=1e-12)
    other = (own / "own.py").read_text().replace("def data", "def no_data")
    (own / "more.py").write_text(f"{other}\ndef data():\n    return no_data()['val']\n")
    (own / "own.py").write_text(other)
    evaluated = launch("eval", "p", "--data", "./more.py:data", "--cpu", "2", "--json", cwd=own)
    for key, value in evaluated.document["metrics"].items():
        assert value == pytest.approx(trained.document["metrics"][key], rel=1e-12), key
    one = launch("predict", "p", "val.npy", "--format", "jsonl", "--out", "said.jsonl", cwd=own)
    assert (one.status, one.out) == (0, ""), one.err  # it needs no training data
    assert "said.jsonl: 211 predictions" in one.err
    said = [json.loads(line) for line in (own / "said.jsonl").read_text().splitlines()]
    assert [(str(row["class"]), str(row["probability"])) for row in said] == [
        (row["class"], row["probability"]) for row in rows
    ]
    assert said[3]["input"] == f"{own}/val.npy:4"
    again = launch("predict", "p", "val.npy", "--out", "said.jsonl", cwd=own)
    assert (again.status, "said.jsonl is there already" in again.err) == (2, True)
    assert not list(run_folder("p").glob("predict-*"))
    text = "0,0,0,0,0,0,0\n1,1,1,1,1,1,1\n"
    pipe = subprocess.PIPE
    with start_launch("predict", "p", "-", "--raw", cwd=own, stdin=pipe, stdout=pipe, text=True) as piped:
        header, *outputs = csv.reader(piped.communicate(text, timeout=WATCHDOG)[0].splitlines())
    assert piped.returncode == 0
    assert header == ["input", "output_0", "output_1"]
    assert [row[0] for row in outputs] == ["stdin.csv:1", "stdin.csv:2"]
    assert float(outputs[1][2]) > float(outputs[1][1])


def test_what_cannot_be_predicted_is_refused_before_anything_starts(launch: Launch) -> None:
    make_run("there")
    for arguments, message in (
        (("p",), "p: neither a run nor a file to predict"),
        (("typo.png",), "typo.png: neither a run nor a file to predict"),
        (("there",), "predict what?"),
        (("p", "x.csv", "--split", "val"), "predict what?"),
        (("p", "x.csv", "--format", "xml"), "--format xml: not a format"),
        (("p", "x.csv"), "p: there is no such run"),
    ):
        refused = launch("predict", *arguments)
        assert (refused.status, refused.out) == (2, "")
        assert message in refused.err

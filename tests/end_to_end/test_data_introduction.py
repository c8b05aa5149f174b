"""A data set of files introduces itself to the one who trains on it, and a run keeps what was found."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.helpers.dataset_files import write_images
from tests.helpers.launch import Launch, run_folder


def test_a_run_says_and_keeps_what_was_found(launch: Launch, tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(12)]
    write_images(tmp_path / "own", names)
    rows = "".join(f"{name};{2019 + number % 2}\n" for number, name in enumerate(names))
    (tmp_path / "own" / "t.csv").write_text("path;label\n" + rows)
    config = tmp_path / "own" / "c.yaml"
    config.write_text(
        "data: {use: csv_images, args: {train_csv: t.csv}, val_size: 2, batch_size: 5, workers: 0}\n"
        "model: {use: linear}\ntrain: {epochs: 1}\n"
    )
    result = launch("train", str(config), "--cpu", "2", "--name", "years")
    assert result.status == 0, result.err
    said = result.err.splitlines()
    assert (
        "input uint8 [1, 5, 7] from 0 to 11, target int from 0 to 1 (in 10 of 10 and 2 of 2 samples)" in said
    )
    assert "note: t.csv is separated by semicolons" in said
    assert "note: the labels are not 0 to 1, so they are names: 2019 is class 0, 2020 is class 1" in said
    kept = (run_folder("years") / "config.yaml").read_text()
    assert '#   data.args.separator: ";"  # in the header of t.csv\n' in kept
    assert '#   data.args.classes: ["2019", "2020"]  # the labels of t.csv\n' in kept
    spec = json.loads((run_folder("years") / "spec.json").read_text())
    assert spec["data"]["look"]["train"]["samples"] == 10
    assert launch("resume", "years", "train.epochs=2", "--cpu", "1").status == 0


def test_a_table_of_text_classes_trains_by_the_recipe_and_all_that_is_said_fits_80_columns(
    launch: Launch, tmp_path: Path
) -> None:
    kinds = [f"a rather long name of kind {number}" for number in range(12)]
    rows = "".join(f"{number % 7},{number % 5},{kinds[number % 12]}\n" for number in range(240))
    (tmp_path / "work" / "table.csv").write_text("width,height,kind\n" + rows)
    settings = [
        "data.args.train_csv=table.csv",
        "data.args.target=kind",
        "data.val_size=60",
        "train.epochs=1",
    ]
    more = "metrics=[accuracy, {use: top_k, args: {k: 2}}, precision, recall, f1]"
    result = launch("train", "csv", *settings, "--cpu", "1", "--name", "kinds", env={"COLUMNS": "80"})
    assert result.status == 0, result.err
    said = " ".join(result.err.split())
    assert "note: the target is a class: loss.use=cross_entropy metrics=[accuracy]" in said
    kept = (run_folder("kinds") / "config.yaml").read_text()
    assert re.search(
        r"^  use: cross_entropy +# csv.yaml:\d+, by the data: the target is a class$", kept, re.MULTILINE
    )
    assert re.search(
        r"^metrics: \[accuracy\] +# default, by the data: the target is a class$", kept, re.MULTILINE
    )
    wide = launch("train", "csv", *settings, more, "--cpu", "3", "--name", "a" * 40, env={"COLUMNS": "80"})
    assert wide.status == 0, wide.err
    lines = [
        *result.err.splitlines(),
        *result.out.splitlines(),
        *wide.err.splitlines(),
        *wide.out.splitlines(),
    ]
    assert [line for line in lines if len(line) > 80 and " " in line.strip()] == []
    assert wide.out.splitlines()[1].split()[:7] == [
        "epoch",
        "loss",
        "loss",
        "accuracy",
        "top_k",
        "precision",
        "recall",
    ]

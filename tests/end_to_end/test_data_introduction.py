"""A data set of files introduces itself to the one who trains on it, and a run keeps what was found."""

from __future__ import annotations

import json
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

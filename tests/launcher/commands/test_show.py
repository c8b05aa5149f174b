from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.launch import Launch

CODE = """
import torch

def named(rows=12):
    print("reading", end="")  # into what a child answers
    return {"train": [({"a": torch.ones(2)}, i % 2) for i in range(rows)]}
"""


def test_show_draws_and_lists_every_class(launch: Launch, tmp_path: Path) -> None:
    config = tmp_path / "d.yaml"
    config.write_text("data: {use: digits, args: {train: 10, val: 10}}\n")
    shown = launch("show", str(config), "--out", str(tmp_path / "p.png"))
    assert shown.status == 0, shown.err
    lines = shown.out.splitlines()
    assert lines[0] == "digits: 10 training samples, 10 for validation, input 1 x 28 x 28"
    assert lines[1].startswith(
        "input uint8 [1, 28, 28] from 0 to 255, target int64 from 0 to 9 (in 10 of 10 and "
    )
    assert [line.split()[:4] for line in lines[2:12]] == [[str(n), "1", "+", "1"] for n in range(10)]
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.format == "PNG"
    for out, said in ((tmp_path / "p.png", "p.png is there already"), (config, "d.yaml: not a .png or ")):
        refused = launch("show", str(config), "--out", str(out))
        assert (refused.status, refused.out, said in refused.err) == (2, "", True)
    assert config.read_text().startswith("data: ")
    document = launch(
        "show", str(config), "--out", str(tmp_path / "not" / "yet" / "p.png"), "--json"
    ).document
    assert (tmp_path / "not" / "yet" / "p.png").is_file()
    assert (document["class_counts"], document["val_class_counts"]) == ([1] * 10, [1] * 10)
    assert document["look"]["train"]["parts"][0]["kinds"] == [
        {"type": "uint8", "shape": [[1, 1], [28, 28], [28, 28]], "samples": 10}
    ]


@pytest.mark.parametrize("options", [pytest.param([], marks=pytest.mark.exhaustive), ["--json"]])
def test_what_cannot_be_drawn_is_introduced_all_the_same(
    launch: Launch, tmp_path: Path, options: list[str]
) -> None:
    (tmp_path / "exp.py").write_text(CODE)
    config = tmp_path / "e.yaml"
    config.write_text('data: {use: "./exp.py:named"}\n')
    shown = launch("show", str(config), *options)
    assert shown.status == 0, shown.err
    if options:
        assert shown.document["picture"] is None
        return
    assert "input.a float32 [2] from 1 to 1, target int from 0 to 1 (in 12 of 12 samples)" in shown.out
    assert "2 labels in 12 samples: 0 in 6, 1 in 6" in shown.out
    assert "note: no picture: the inputs are not images" in shown.out

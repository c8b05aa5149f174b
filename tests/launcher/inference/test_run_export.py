"""What ``launch export`` refuses before it begins, and what it says of a missing package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lockstep.data.common import MachineError, UsageError
from lockstep.launcher.inference import Export, export_run, run_export
from tests.helpers.run_folders import make_run


def test_a_format_that_does_not_exist_and_a_file_that_does_are_refused(tmp_path: Path) -> None:
    make_run("one")
    there = tmp_path / "there.pt2"
    there.write_text("precious")
    for asked, said in (
        (Export("pickle"), "--format pickle: not a format"),
        (Export(out=there), "is there already"),
        (Export(out=tmp_path, force=True), "a folder"),
        (Export(out=tmp_path / "new", checkpoint="first"), "neither a step nor `best`"),
    ):
        with pytest.raises(UsageError) as refused:
            export_run("one", asked, as_json=False)
        assert said in refused.value.message
    assert there.read_text() == "precious"


def test_a_file_is_named_after_the_checkpoint_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training writes another one meanwhile."""
    steps = [30, 20]

    def written(_: str, question: dict[str, Any], __: str) -> dict[str, Any]:
        Path(question["out"]).write_text(str(steps[-1]))
        return {
            "step": steps.pop(),
            "checkpoint": "",
            "damaged": [],
            "weights": "",
            "tensors": 1,
            "weights_sha256": "",
        }

    make_run("one")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_export, "ask_child", written)
    for _ in range(2):
        assert export_run("one", Export(), as_json=True) == 0
    assert [Path(f"one-step{step}.safetensors").read_text() for step in (20, 30)] == ["20", "30"]
    assert not list(tmp_path.glob(".*"))


def test_a_missing_package_is_named_with_the_extra_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_export, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(MachineError) as refused:
        export_run("one", Export("onnx"), as_json=False)
    assert refused.value.message == "--format onnx needs onnxscript"
    assert "lockstep-train[onnx]" in refused.value.hint

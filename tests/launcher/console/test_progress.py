from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from lockstep.launcher.console.event_notes import event_lines
from lockstep.launcher.console.progress import EpochTable
from lockstep.launcher.console.progress_view import ProgressView
from lockstep.launcher.console.run_progress import RunShape

EPOCH = {
    "event": "epoch",
    "epoch": 0,
    "step": 33,
    "train/loss": 0.21914,
    "val/loss": 1234.5678,
    "val/accuracy": 0.95734,
    "val/count": 211,
    "samples_per_second": 12345.6,
    "train_seconds": 0.25,
    "val_seconds": 0.5,
}
HEAD = "epoch  train loss   val loss  val accuracy  samples/s   seconds\n"


def _table(tmp_path: Path) -> tuple[EpochTable, Path, io.StringIO]:
    shown = io.StringIO()
    events = tmp_path / "metrics.jsonl"
    view = ProgressView(2)
    view.begin(RunShape(66, 33, 4), 0)
    return EpochTable(events, view, shown), events, shown


def _append(events: Path, *documents: dict[str, Any]) -> None:
    with events.open("a") as file:
        file.writelines(json.dumps(document) + "\n" for document in documents)


def test_an_epoch_is_a_row_under_a_head_that_is_shown_once(tmp_path: Path) -> None:
    table, events, shown = _table(tmp_path)
    table.update(0, "starting")
    _append(
        events, {"event": "start", "unused_parameters": []}, {"event": "step", "epoch": 0, "step": 1}, EPOCH
    )
    table.update(0, "starting")
    _append(events, {**EPOCH, "epoch": 1})
    table.update(0, "starting")
    table.update(0, "starting")
    table.close()
    row = "      0.2191    1234.57        95.73%     12,346      0.75\n"
    assert shown.getvalue() == f"{HEAD}    1{row}    2{row}"


def test_a_row_that_is_still_being_written_waits(tmp_path: Path) -> None:
    table, events, shown = _table(tmp_path)
    line = json.dumps(EPOCH) + "\n"
    for part in (line[:20], line[20:-1]):
        with events.open("a") as file:
            file.write(part)
        table.update(0, "starting")
        assert shown.getvalue() == ""
    with events.open("a") as file:
        file.write("\n")
    table.update(0, "starting")
    table.close()
    assert shown.getvalue().count("95.73%") == 1


def test_what_is_no_number_is_nan(tmp_path: Path) -> None:
    table, events, shown = _table(tmp_path)
    _append(events, {**EPOCH, "val/loss": None, "train/loss": -0.00001})
    table.update(0, "starting")
    table.close()
    assert shown.getvalue().splitlines()[1].split()[:3] == ["1", "-0.0000", "nan"]


def test_parameters_that_the_loss_does_not_reach_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, events, _ = _table(tmp_path)
    _append(events, {"event": "start", "unused_parameters": [f"layer{n}.weight" for n in range(9)]})
    table.update(0, "starting")
    table.close()
    err = capsys.readouterr().err
    assert "does not reach 9 parameters: layer0.weight" in err
    assert "layer5" not in err


def test_parameters_that_some_steps_leave_out_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, events, _ = _table(tmp_path)
    missed = {f"layer{n}.weight": n + 1 for n in range(9)}
    _append(events, {"event": "unreached", "epoch": 0, "step": 9, "steps": 9, "missed": missed})
    table.update(0, "starting")
    table.close()
    err = capsys.readouterr().err
    assert "of the 9 steps of epoch 1 the loss does not reach layer0.weight in 1, layer1.weight in 2" in err
    assert "layer4.weight in 5 and 4 more" in err


@pytest.mark.parametrize(
    ("best", "said"),
    [(0.25, "has not improved for 2 epochs; best 0.25"), (None, "has not been a number for 2 epochs")],
)
def test_an_early_end_is_told_whatever_the_metric_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], best: float | None, said: str
) -> None:
    table, events, _ = _table(tmp_path)
    _append(events, {"event": "early_stop", "step": 1, "monitor": "val/x", "best": best, "stalled": 2})
    _append(events, {"event": "note", "step": 1, "message": "something"})
    table.update(0, "starting")
    table.close()
    assert capsys.readouterr().err == f"note: ended early: val/x {said}\nnote: something\n"


def test_nothing_but_rows_is_written_where_nobody_watches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, events, _ = _table(tmp_path)
    _append(events, {"event": "step", "epoch": 0, "step": 1, "train/loss": 1.0}, EPOCH)
    table.update(0, "starting")
    table.close()
    assert capsys.readouterr() == ("", "")


def test_a_loss_that_explodes_stays_in_its_column() -> None:
    from lockstep.launcher.console.formats import format_metric

    assert [format_metric("train/loss", value) for value in (0.5, 1234.5, 5.49556e21, -2e9)] == [
        "0.5000",
        "1234.50",
        "5.496e+21",
        "-2.000e+09",
    ]


def test_the_share_of_a_checkpoint_that_is_written(tmp_path: Path) -> None:
    from lockstep.launcher.console.progress import _share_written

    assert _share_written(tmp_path / "nothing", 100) == 0
    (tmp_path / "a").write_bytes(bytes(30))
    (tmp_path / "b").write_bytes(bytes(20))
    assert _share_written(tmp_path, 100) == 0.5
    assert _share_written(tmp_path, 10) == 1


def test_an_evaluation_within_an_epoch_is_a_row_by_its_step(tmp_path: Path) -> None:
    table, events, shown = _table(tmp_path)
    table.update(0, "starting")
    plain = {key: value for key, value in EPOCH.items() if not key.startswith("val/")}
    found = {
        key: EPOCH[key] for key in ("train/loss", "val/loss", "val/accuracy", "val/count", "val_seconds")
    }
    _append(events, plain, {"event": "evaluation", "epoch": 1, "step": 40, **found}, {**plain, "epoch": 1})
    table.update(0, "starting")
    table.close()
    assert shown.getvalue().splitlines() == [
        "epoch  train loss  samples/s   seconds",
        "    1      0.2191     12,346      0.75",
        HEAD.rstrip("\n"),
        "  @40      0.2191    1234.57        95.73%                 0.50",
        f"    2      0.2191{'':25}     12,346      0.75",
    ]


def test_an_early_end_counts_what_was_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, events, _ = _table(tmp_path)
    table.update(0, "starting")
    stop = {"event": "early_stop", "step": 40, "monitor": "val/loss", "best": 0.5, "stalled": 3}
    _append(events, stop, {**stop, "unit": "evaluation"})
    table.update(0, "starting")
    table.close()
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("val/loss has not improved for 3 epochs; best 0.5")
    assert second.endswith("val/loss has not improved for 3 evaluations; best 0.5")


def test_values_stand_under_names_that_are_longer_than_a_column(tmp_path: Path) -> None:
    table, events, shown = _table(tmp_path)
    _append(events, {**EPOCH, "train/discriminator": 1.5})
    table.update(0, "starting")
    table.close()
    head, row = shown.getvalue().splitlines()
    assert len(row) == len(head)
    assert row[: head.index("discriminator") + len("discriminator")].endswith(" 1.5000")


def test_a_checkpoint_that_fails_says_what_holds_at_the_last_step_as_well() -> None:
    (line,) = event_lines({"event": "checkpoint_failed", "step": 4, "message": "the disk is full"})
    assert line == (
        "warning: the disk is full; the run fails only if its last checkpoint cannot be written, either"
    )


def test_a_warning_among_the_notes_is_a_warning() -> None:
    lines = event_lines({"event": "start", "notes": ["a head is new", "warning: n is in no checkpoint"]})
    assert lines == ["note: a head is new", "warning: n is in no checkpoint"]


def _wide(
    tmp_path: Path, metrics: list[str], width: int | None, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    monkeypatch.setenv("COLUMNS", "0" if width is None else str(width))
    table, events, shown = _table(tmp_path)
    _append(events, {**EPOCH, **{f"val/{name}": 0.5 for name in metrics}})
    table.update(0, "starting")
    table.close()
    return shown.getvalue().splitlines()


FOUR = ["confidence", "precision", "f1", "recall"]


def test_four_metrics_more_fit_80_columns_in_two_lines_of_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upper, lower, row = _wide(tmp_path, FOUR, 80, monkeypatch)
    assert max(map(len, (upper, lower, row))) <= 80
    assert upper.split() == ["train", *["val"] * 6]
    assert lower.split() == ["epoch", "loss", "loss", "accuracy", *FOUR]
    assert row.split() == ["1", "0.2191", "1234.57", "95.73%", *["0.5000"] * 4]


@pytest.mark.parametrize(
    ("width", "names", "last"),
    [(None, 2, "seconds"), (120, 2, "seconds"), (90, 3, "samples/s"), (30, 3, "loss")],
)
def test_columns_are_left_out_from_the_right_where_a_line_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int | None, names: int, last: str
) -> None:
    lines = _wide(tmp_path, FOUR, width, monkeypatch)
    assert (len(lines), lines[-2].split()[-1]) == (names, last)
    assert width is None or max(map(len, lines)) <= width


def test_what_is_measured_in_training_leaves_room_for_the_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table, events, shown = _table(tmp_path)
    terms = dict.fromkeys(("objectness", "classifier", "rpn_box_reg", "box_reg", "mask"), 0.5)
    training = {key: value for key, value in EPOCH.items() if not key.startswith("val")}
    training |= {f"train/{name}": value for name, value in terms.items()}
    _append(events, training, {**training, **EPOCH}, {**training, **EPOCH})
    table.update(0, "starting")
    table.close()
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    heads = [line for line in lines if "epoch" in line]
    assert len(heads) == 2, "one more when the evaluation comes, and none after it"
    assert [row.split()[:4] for row in lines[-2:]] == [["1", "0.2191", *lines[-1].split()[2:4]]] * 2
    assert "1234.57" in lines[-1]

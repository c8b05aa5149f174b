"""``data.use: csv``: the arrays of a table, what is refused, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.data.cache import load_array
from lockstep.data.common import LockstepError
from lockstep.data.config import DataConfig, DatasetInfo
from lockstep.data.prepare import prepare
from lockstep.data.tables import csv_numbers

HOUSES = "area;rooms;price\n50,5;2;100\n70;3;150,25\n\n90;4;200\n"


def _prepare(tmp_path: Path, text: str, val: str | None = None, **args: Any) -> DatasetInfo:
    return _prepare_with(tmp_path, text, val, {}, **args)


def _prepare_with(
    tmp_path: Path, text: str, val: str | None, settings: dict[str, Any], **args: Any
) -> DatasetInfo:
    (tmp_path / "train.csv").write_text(text, encoding="utf-8")
    if val is not None:
        (tmp_path / "val.csv").write_text(val, encoding="utf-8")
        args["val_csv"] = "val.csv"
    config = DataConfig(use="csv", batch_size=2, args={"train_csv": "train.csv", **args}, **settings)
    return prepare(config, tmp_path)


def _arrays(facts: DatasetInfo, which: str = "train") -> tuple[list[Any], list[Any]]:
    split = facts.split(which)
    assert split is not None
    return load_array(split.files["x"]).tolist(), load_array(split.files["y"]).tolist()


def _settings(facts: DatasetInfo) -> dict[str, Any]:
    return {found.key: found.value for found in facts.found}


def test_numbers_in_and_a_number_out(tmp_path: Path) -> None:
    facts = _prepare(tmp_path, HOUSES, target="price", decimal=",")
    assert _arrays(facts) == ([[50.5, 2], [70, 3], [90, 4]], [[100], [150.25], [200]])
    assert (facts.input_shape, facts.target_shape, facts.classes) == ((2,), (1,), None)
    assert _settings(facts) == {
        "data.args.separator": ";",
        "data.args.input": ("area", "rooms"),
        "data.args.target_type": "number",
    }


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["b", "a", "b", "c"], ["a", "b", "c"]),
        (["True", "False"] * 2, ["False", "True"]),
        (["0", "1", "2"] * 10, ["0", "1", "2"]),
        (["2", "1"] * 10, ["1", "2"]),
        (["0", "1", "2"] * 9, None),  # fewer than ten rows of each
        (["1", "3"] * 20, None),
        (["07", "08", "10"] * 2, ["07", "08", "10"]),  # codes
        (["0.5", "1"] * 20, None),
        (["10%", "50%"] * 10, ["10%", "50%"]),  # few, each of many rows
        (["1 a", "2 a", "3 a"], ["1 a", "2 a", "3 a"]),
    ],
)
def test_what_the_target_is_follows_from_its_values(
    tmp_path: Path, values: list[str], classes: list[str] | None
) -> None:
    facts = _prepare(tmp_path, "x,y\n" + "".join(f"{n},{y}\n" for n, y in enumerate(values)), target="y")
    assert (facts.class_names and list(facts.class_names)) == classes
    expected = [[float(y)] for y in values] if classes is None else [classes.index(y) for y in values]
    assert _arrays(facts)[1] == expected


def test_the_target_is_what_the_config_says(tmp_path: Path) -> None:
    table = "x,y\n1,3\n2,7\n3,3\n"
    assert _arrays(_prepare(tmp_path, table, target="y", target_type="class"))[1] == [0, 1, 0]
    assert _arrays(_prepare(tmp_path, table, target="y", classes=["7", "3"]))[1] == [1, 0, 1]
    numbers = "x,y\n" + "1,0\n2,1\n" * 20
    assert _arrays(_prepare(tmp_path, numbers, target="y", target_type="number"))[1] == [[0], [1]] * 20


def test_several_targets_are_numbers(tmp_path: Path) -> None:
    facts = _prepare(tmp_path, "a,u,v\n1,2,3\n4,5,6\n", target=["v", "u"])
    assert _arrays(facts) == ([[1], [4]], [[3, 2], [6, 5]])
    assert facts.target_shape == (2,)


def test_validation_is_scaled_and_filled_by_the_training_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_numbers, "ROWS", 2)  # several parts
    train = "a,b,y\n1,5,1\n2,,2\n3,9,3\nNA,10,4\n6,12,5.5\n"
    facts = _prepare(
        tmp_path, train, "b,y,a\n,1,30\n9,2,NaN\n", target="y", standardize=True, fill_missing="mean"
    )
    table = np.array([[1, 5], [2, np.nan], [3, 9], [np.nan, 10], [6, 12]])
    mean, std = np.nanmean(table, 0), np.nanstd(table, 0)
    filled = np.where(np.isnan(table), mean, table)
    np.testing.assert_allclose(_arrays(facts)[0], (filled - mean) / std, rtol=1e-6)
    val = np.array([[30, mean[1]], [mean[0], 9]])
    np.testing.assert_allclose(_arrays(facts, "val")[0], (val - mean) / std, rtol=1e-6)
    assert "missing values of train that were filled: a 1, b 1" in facts.notes
    assert "missing values of val that were filled: a 1, b 1" in facts.notes


def test_numbers_are_read_to_the_last_bit(tmp_path: Path) -> None:
    numbers = [0.1, 1 / 3, 2.5e-300, 123456789.123456789, 5e-324, 9007199254740993.0]
    table = "x,y\n" + "".join(f"{n!r},0.5\n" for n in numbers)
    assert _arrays(_prepare(tmp_path, table, target="y", dtype="float64"))[0] == [[n] for n in numbers]


def test_columns_of_weights_and_groups_are_no_inputs(tmp_path: Path) -> None:
    table = "x,w,y\n1,2,0.5\n3,4,0.25\n"
    facts = _prepare_with(tmp_path, table, None, {"weights": "w"}, target="y")
    assert _arrays(facts)[0] == [[1], [3]]


def test_a_file_is_read_once_and_again_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _prepare(tmp_path, "x,y\n1,0.5\n", target="y")
    (tmp_path / "copy").mkdir()
    config = DataConfig(use="csv", batch_size=2, args={"train_csv": "train.csv", "target": "y"})
    with monkeypatch.context() as patch:
        patch.setattr(csv_numbers, "read_chunks", None)
        assert prepare(config, tmp_path).fingerprint == first.fingerprint
    changed = _prepare(tmp_path, "x,y\n2,0.5\n", target="y")
    assert changed.fingerprint != first.fingerprint
    assert _arrays(changed)[0] == [[2]]
    copied = _prepare(tmp_path / "copy", "x,y\n1,0.5\n", target="y")
    assert copied.train.files == first.train.files, "a node of another time has it at the same place"


@pytest.mark.parametrize(
    ("text", "args", "words"),
    [
        ("x,y\n", {}, ["has no rows"]),
        ("", {}, ["not a CSV file"]),
        ("x,y\n1,2\n", {"target": "z"}, ["data.args.target", "no column 'z'", "its columns are x, y"]),
        ("x,y\n1,2\n", {"input": ["x", "y"]}, ["data.args.input: 'y' is the target"]),
        ("x,y\n1,2\n", {"target": None}, ["data.args.target is missing"]),
        ("x,x,y\n1,1,2\n", {"input": "x"}, ["several columns 'x'"]),
        ("# from the lab\nx,y\n1,2\n", {}, ["no column 'y'", "remove that line"]),
        ("y\n2\n", {}, ["no column besides the target"]),
        (
            "city,x,y\nRome,1,2\nOslo,2,3\n",
            {},
            ["column 'city' holds texts such as 'Rome'", "'data.args.input=[x]'"],
        ),
        ("x,y\n1,0.5\n2,1\nten,2\n4,3\n", {}, ["train.csv:4: column 'x' holds 'ten'"]),
        ("x,y\n1,0.5\n2,1\ninf,2\n4,3\n", {}, ["train.csv:4: column 'x' holds 'inf'"]),
        ('x,y\n1,0.5\n"1,200",1\n', {}, ["train.csv:3: column 'x' holds '1,200'", "data.args.decimal"]),
        ("x,y\n1,0.5\n,1\n\n,3\n", {}, ["column 'x' has no value in 2 of 3 rows, the first in line 3"]),
        ("x,y\n1,0.5\n2,\n", {}, ["train.csv:3: the target is missing"]),
        ("x,y\n1,0.5\n2,abc\n", {"target_type": "number"}, ["train.csv:3: the target 'abc' is not a number"]),
        ("x,y\n1,a\n2,\n", {"classes": ["a"]}, ["train.csv:3: the label is empty"]),
        ("x,y\n1,2,3\n", {}, ["line 2 has more fields"]),
        ("x,y\n1,2\n1,2,3\n", {}, ["line 3"]),
        ("x,y\n1,2\n", {"fill_missing": "median"}, ["neither mean nor a number"]),
        ("x,y\n1,2\n", {"standardize": 1}, ["neither true nor false"]),
        ("x,y\n1,2\n", {"dtype": "int8"}, ["none of float32, float64"]),
        ("x,y\n1e39,1\n2,0.5\n", {}, ["column 'x' has values up to 1e+39, which float32 cannot hold"]),
        ("x,y\n1,1e39\n2,0.5\n", {}, ["train.csv:2: the target is missing, or no number that float32"]),
        ("x,y\n,1\n2,0.5\n", {"fill_missing": 1e300}, ["column 'x' has values up to 1e+300"]),
        ("x,y\n1e200,1\n-1e200,0.5\n", {"standardize": True}, ["too large to be standardized"]),
        ("x,y\n1,1_000\n2,0.5\n", {"target_type": "number"}, ["train.csv:2: the target '1_000'"]),
        ("x;y\n1,5;1.234\n2;0,5\n", {"target_type": "number", "decimal": ","}, ["the target '1.234'"]),
        ("x;y\n1,5;1\nabc;2\n2,5;0,5\n", {"decimal": ","}, ["train.csv:3: column 'x' holds 'abc'"]),
        ("x,u,v\n1,2,3\n", {"target": ["u", "v"], "classes": ["2"]}, ["several columns of classes"]),
        (
            'x,y\n1,"1,200"\n2,900\n',
            {},
            ["'y' holds quantities such as '1,200'", "data.args.target_type=class"],
        ),
        ("x,y\n1,5%\n2,12.5 %\n3,NA\n", {}, ["'y' holds quantities such as '5%'"]),
        ("x,y\n1,$5.50\n2,-€7\n", {}, ["'y' holds quantities such as '$5.50'"]),
        ("x,y\n1,2024-01-31\n2,2024-02-01 12:30\n", {}, ["'y' holds dates such as '2024-01-31'"]),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, args: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(LockstepError) as refused:
        _prepare(tmp_path, text, **{"target": "y", **args})
    told = f"{refused.value}\n{refused.value.hint}"
    assert [word for word in words if word not in told] == [], told


def test_a_label_that_training_has_not_seen(tmp_path: Path) -> None:
    with pytest.raises(LockstepError, match=r"val\.csv:3: 'c' is none of the classes a, b"):
        _prepare(tmp_path, "x,y\n1,a\n2,b\n", "x,y\n1,a\n2,c\n", target="y")


def test_what_a_float_cannot_hold_is_said(tmp_path: Path) -> None:
    table = "x,big,y\n1,16777217,0.5\n2,3,1\n"
    assert any(
        "big" in note and "standardize" in note for note in _prepare(tmp_path, table, target="y").notes
    )
    assert not _prepare(tmp_path, table, target="y", dtype="float64").notes
    (note,) = _prepare(tmp_path, "x,y\n1,16777217.5\n2,3\n", target="y").notes
    assert note == "float32 rounds values beyond 16,777,216, as there are in y"
    several = _prepare(tmp_path, "x,y,z\n1,16777217.5,1\n2,3,2\n", target=["y", "z"])
    assert several.notes == (note,)


def test_a_column_of_one_value_stays_as_far_from_it_as_it_was(tmp_path: Path) -> None:
    rows = "".join(f"0.1,{n},{n}.5\n" for n in range(10))
    facts = _prepare(tmp_path, "a,b,y\n" + rows, "a,b,y\n0.2,3,1\n", target="y", standardize=True)
    assert [row[0] for row in _arrays(facts)[0]] == [0.0] * 10
    assert _arrays(facts, "val")[0][0][0] == pytest.approx(0.1)
    assert "columns with one value alone: a" in facts.notes


def test_it_does_not_matter_where_a_file_is_cut_into_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = "x,w,y\ntrue,1,true\nFalse,2,0\n1,true,2.5\n0,,FALSE\n"
    whole = _arrays(_prepare(tmp_path, table, target="y", target_type="number", fill_missing=7))
    assert whole == ([[1, 1], [0, 2], [1, 1], [0, 7]], [[1], [0], [2.5], [0]])
    monkeypatch.setattr(csv_numbers, "ROWS", 2)
    (tmp_path / "again").mkdir()
    assert whole == _arrays(
        _prepare(tmp_path / "again", table, target="y", target_type="number", fill_missing=7)
    )


def test_weights_have_the_decimal_sign_of_the_table(tmp_path: Path) -> None:
    table = "x;w;y\n1,5;0,25;0,5\n3;1;1\n"
    facts = _prepare_with(tmp_path, table, None, {"weights": "w"}, target="y", decimal=",")
    assert facts.sampling is not None
    assert facts.sampling.often == pytest.approx((0.4, 1.6))


@pytest.mark.parametrize("part", [7, 2**17])
def test_a_column_that_counts_the_rows_is_told(
    tmp_path: Path, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``to_csv`` writes pandas' index as a column without a name."""
    monkeypatch.setattr(csv_numbers, "ROWS", part)
    rows = [[row, 3 * row, row // 2 * 2 + 1, row if row < 27 else 26, row % 2] for row in range(28)]
    text = "\n".join(",".join(map(str, row)) for row in [["", "a", "b", "c", "y"], *rows])
    (note,) = _prepare(tmp_path, text, target="y").notes
    assert note.startswith("column '' counts the rows, 0 to 27, as an index does")
    assert "'data.args.input=[a,b,c]' leaves it out" in note

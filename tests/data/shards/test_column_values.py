import io

import numpy as np
import pytest
from PIL import Image

from lockstep.data.shards import column_values
from lockstep.data.shards.column_values import convert, kind_of
from lockstep.data.shards.sample_layout import SampleLayout
from lockstep.data.shards.shard_format import MISSING, BadRowError


def encoded(mode, size, form="PNG"):
    file = io.BytesIO()
    Image.new(mode, size, 7).save(file, form)
    return file.getvalue()


PNG = encoded("L", (3, 2))


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1, "int"), (True, "int"), (1.5, "float"), ("a", "text"), (PNG, "image"), (b"x", "bytes"), ([1, 2], "list"),
     ([[1], [2]], "list"), ([], "list"), (["a"], "other"), ({"a": 1}, "other"), ({"bytes": b"", "path": ""}, "image"),
     (None, "other")],
)  # fmt: skip
def test_kinds_are_told_by_looks(value, kind):
    assert kind_of(value) == kind


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("int", [1, True], np.array([1, 1])),
        ("int", np.array([1, 2], np.int16), np.array([1, 2], np.int16)),
        ("float", [1, 2.5], np.array([1.0, 2.5])),
        ("float", np.array([1, 2]), np.array([1.0, 2.0])),
        ("list", [[1, 2], [3, 4]], np.array([[1, 2], [3, 4]])),
        ("list", [[[1.0]], [[2.0]]], np.array([[[1.0]], [[2.0]]])),
    ],
)
def test_numbers_become_one_array(kind, values, expected):
    found = convert(kind, "x", values)
    assert found.dtype == expected.dtype
    assert (found == expected).all()


def test_other_values_stay_a_list():
    assert convert("text", "x", ["a", "b"]) == ["a", "b"]
    assert convert("bytes", "x", [b"a"]) == [b"a"]
    ragged = convert("list", "x", [[1], [1, 2]])
    assert [array.tolist() for array in ragged] == [[1], [1, 2]]


@pytest.mark.parametrize(
    ("kind", "values", "reason"),
    [
        ("int", [1, 2.5], "'x' is 2.5, not int"),
        ("int", [1, "2"], "'x' is '2', not int"),
        ("int", [1, None], "'x' is null, not int"),
        ("int", [1, 2**70], "64 bits"),
        ("float", [1.0, True], "'x' is True, not float"),
        ("float", [1.0, None], "null"),
        ("text", ["a", 3], "'x' is 3, not text"),
        ("text", ["a", None], "null"),
        ("text", ["a", MISSING], "'x' is missing"),
        ("list", [[1], "a"], "'x' is 'a', not list"),
        ("list", [[1], [[1], [1, 2]]], "not list"),
        ("list", [[1], ["a"]], "not list"),
        ("image", [PNG, b"GIF89a"], "not a picture that can be read"),
        ("image", [PNG, None], "null"),
    ],
)
def test_a_value_of_another_kind_is_named(kind, values, reason):
    with pytest.raises(BadRowError, match=reason) as error:
        convert(kind, "x", values)
    assert error.value.row == 1


@pytest.mark.parametrize(
    ("picture", "shape"),
    [(PNG, (1, 2, 3)), (encoded("RGB", (3, 2)), (3, 2, 3)), (encoded("RGB", (8, 8), "JPEG"), (3, 8, 8)),
     (encoded("RGBA", (3, 2)), (3, 2, 3))],
)  # fmt: skip
def test_pictures_become_channels_height_width(picture, shape):
    for value in (picture, {"bytes": picture, "path": None}):
        (pixels,) = convert("image", "x", [value])
        assert pixels.shape == shape
        assert pixels.dtype == np.uint8


def test_a_picture_that_would_be_huge_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(column_values, "_MOST_PIXELS", 5)
    with pytest.raises(BadRowError, match="3 x 2 pixels"):
        convert("image", "x", [PNG])


def test_columns_become_input_and_target():
    kinds = {"a": "int", "b": "float", "t": "text", "y": "int"}
    columns = {"a": [1, 2], "b": [0.5, 1.5], "t": ["u", "v"], "y": [0, 1]}
    x, y = SampleLayout(kinds, ("a", "b"), "y").batch(columns)
    assert x.tolist() == [[1, 0.5], [2, 1.5]]
    assert y.tolist() == [0, 1]
    x, _ = SampleLayout(kinds, ("a", "t"), "y").batch(columns)
    assert x["a"].tolist() == [1, 2]
    assert x["t"] == ["u", "v"]
    _, y = SampleLayout(kinds, "a", "t", ("v", "u")).batch(columns)
    assert y.tolist() == [1, 0]
    with pytest.raises(BadRowError, match="'t' is 'v', none of the classes u"):
        SampleLayout(kinds, "a", "t", ("u",)).batch(columns)
    assert SampleLayout(kinds).batch(columns).keys() == columns.keys()

"""Other data for a trained run: which sections they make, and what is refused."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.data.config import DataConfig, DatasetInfo, FoundSetting, SplitInfo
from lockstep.data.config.other_data import (
    EVALUATED_FUNCTION,
    VALIDATION_ARGUMENTS,
    as_trained,
    evaluation_section,
    names_function,
)
from lockstep.data.sets.source_list import SOURCES
from lockstep.data.sources.evaluated_function import evaluated_splits

TRAINED = DatasetInfo(
    name="csv_images",
    kind="images",
    train=SplitInfo(9, {}),
    val=None,
    input_shape=(3, 8, 8),
    input_dtype="uint8",
    classes=2,
    class_names=("cat", "dog"),
    target_shape=(),
    mean=(0.5,),
    std=(0.2,),
    found=(
        FoundSetting("data.args.classes", ("cat", "dog"), ""),
        FoundSetting("data.args.separator", ";", ""),
    ),
)
OTHER = replace(TRAINED, name="own", kind="user", class_names=None, mean=None, std=None, scale_uint8=False)


def test_each_argument_is_one_of_its_source() -> None:
    for use, key in VALIDATION_ARGUMENTS.items():
        schema = SOURCES[use].arguments
        assert schema is not None
        assert key in {field.name for field in fields(schema)}


def test_a_path_takes_the_place_of_the_validation_set_and_what_was_found_stays(tmp_path: Path) -> None:
    (tmp_path / "more.csv").touch()
    config = DataConfig(
        use="csv_images", args={"train_csv": "a.csv", "val_csv": "b.csv"}, val_size=3, group="who"
    )
    section = evaluation_section(config, TRAINED, "more.csv", tmp_path)
    found = {"train_csv": "a.csv", "val_csv": str(tmp_path / "more.csv"), "classes": ("cat", "dog")}
    assert (section.use, section.args) == ("csv_images", found)
    assert (section.val_size, section.group) == (None, None)


def test_shards_may_lie_behind_an_address(tmp_path: Path) -> None:
    config = DataConfig(use="shards", args={"files": "a/*.parquet"})
    trained = replace(TRAINED, found=())
    for what, files in (("s3://b/*.parquet", "s3://b/*.parquet"), ("c/*.parquet", f"{tmp_path}/c/*.parquet")):
        section = evaluation_section(config, trained, what, tmp_path)
        assert section.args == {"files": "a/*.parquet", "val_files": files}


def test_a_functions_splits_and_settings_are_checked(tmp_path: Path) -> None:
    (tmp_path / "more.py").write_text(
        "import torch\npair = torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)\n"
        "def data(): return {'train': pair, 'val': pair, 'test_b': pair, 'pad': None}\n"
        "def misspelt(): return {'val': pair, 'tset': pair}\n"
        "def nothing(): return {'train': pair}\n"
    )
    assert [*evaluated_splits("./more.py:data", str(tmp_path))] == ["train", "val", "test_b"]
    with pytest.raises(TrainingError, match="misspelt returned the unknown key 'tset'"):
        evaluated_splits("./more.py:misspelt", str(tmp_path))
    with pytest.raises(TrainingError, match="and nothing to evaluate"):
        evaluated_splits("./more.py:nothing", str(tmp_path))


def test_a_function_takes_the_place_of_the_source(tmp_path: Path) -> None:
    section = evaluation_section(DataConfig(), TRAINED, "./more.py:data", tmp_path)
    arguments = {"use": "./more.py:data", "folder": str(tmp_path)}
    assert (section.use, section.args) == (EVALUATED_FUNCTION, arguments)


def test_a_function_is_told_from_a_path() -> None:
    asked = {"a.b:c": True, "./a.py:c": True, "a.csv": False, "x:1.csv": False}
    assert {what: names_function(what) for what in asked} == asked


def test_what_cannot_be_evaluated_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    standardized = DataConfig(use="csv", args={"standardize": True})
    for config, what, message in (
        (DataConfig(use="csv"), "nix.csv", "no such file or folder"),
        (DataConfig(use="digits"), "a.csv", "was trained on digits, which reads no file"),
        (DataConfig(use="./own.py:data"), "a.csv", r"trained on \./own.py:data, which reads no file"),
        (standardized, "m:f", "were standardized, which a function's are not"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluation_section(config, TRAINED, what, tmp_path)


def test_classes_and_normalisation_are_those_of_the_training() -> None:
    facts = as_trained(TRAINED, replace(OTHER, classes=1), "m:f", several_shapes=False)
    assert (facts.name, facts.classes, facts.class_names) == ("m:f", 2, ("cat", "dog"))
    assert (facts.mean, facts.std, facts.scale_uint8) == ((0.5,), (0.2,), True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_shape": (3, 9, 9)}, r"the shape of inputs is \[3, 9, 9\], .* on \[3, 8, 8\]"),
        ({"input_dtype": "float32"}, "the type of inputs is float, but the model was trained on uint8"),
        ({"target_shape": (1,)}, r"the shape of targets is \[1\]"),
        ({"classes": 3}, "a target is 2, but the model was trained on 2 classes: 0 to 1"),
        ({"class_names": ("dog", "cat")}, r"the classes are \[dog, cat\]"),
    ],
)
def test_samples_of_another_kind_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        as_trained(TRAINED, replace(OTHER, **change), "m:f", several_shapes=False)


def test_shapes_may_differ_where_samples_are_padded() -> None:
    facts = as_trained(TRAINED, replace(OTHER, input_shape=(3, 9, 9)), "m:f", several_shapes=True)
    assert facts.input_shape == (3, 9, 9)

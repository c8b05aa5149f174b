from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.data.cache.array_cache import array_split_info, cached, entry_key, save_array
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.prepare import prepare
from lockstep.data.sets import source_list
from lockstep.data.sets.source_list import SOURCES, open_split
from lockstep.data.sources.arguments import whole_number
from lockstep.data.sources.source import DataSource


def test_the_sources_are_those_of_the_documentation() -> None:
    assert sorted(SOURCES) == [
        "cifar10",
        "csv",
        "csv_images",
        "digits",
        "fashion_mnist",
        "image_folder",
        "mnist",
        "shards",
        "tensors",
    ]


@dataclass(frozen=True)
class CountArguments:
    rows: int = whole_number(12, least=1)


def describe_count(arguments: CountArguments, config: DataConfig, base: Path) -> DatasetInfo:
    def build(folder: Path) -> dict[str, Any]:
        for name in ("train_x", "train_y"):
            save_array(folder / f"{name}.npy", np.arange(arguments.rows, dtype=np.float32)[:, None])
        return {}

    entry = cached(entry_key("count", arguments.rows), build)
    return DatasetInfo(
        name=config.use,
        kind="arrays",
        train=array_split_info(entry, "train", None),
        val=None,
        input_shape=(1,),
        input_dtype="float32",
        classes=None,
        class_names=None,
        target_shape=(1,),
        mean=None,
        std=None,
    )


def test_a_new_source_is_one_declaration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        source_list.SOURCES, "count", DataSource("count", "Numbers.", CountArguments, describe_count)
    )
    config = DataConfig(use="count", args={"rows": 5}, val_size=2)
    facts = prepare(config, tmp_path)
    splits = [open_split(facts, which, config, tmp_path) for which in ("train", "val")]
    assert [len(split) for split in splits] == [3, 2]
    assert splits[0].x.flatten().tolist() == [0, 1, 2, 3, 4]


def test_what_the_sources_declare_needs_no_torch() -> None:
    code = "import sys, lockstep.data.sets.source_list; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], timeout=60, check=False).returncode == 0

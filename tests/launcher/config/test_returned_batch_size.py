"""The batch size that a user's function returns, and the config's own, which takes its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.data.config.data_look import FoundSetting
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.launcher.config.resolution import resolve, to_yaml
from lockstep.launcher.train.data_lines import returned_lines
from tests.helpers.dataset_infos import PICTURES

FOUND = FoundSetting("data.batch_size", 24, "./exp.py:data returns it")


@pytest.fixture
def facts() -> DatasetInfo:
    return replace(PICTURES, name="./exp.py:data", found=(FOUND,))


@pytest.fixture
def config(tmp_path: Path) -> str:
    (path := tmp_path / "exp.yaml").write_text("model: {use: linear}\ntrain: {epochs: 2}\n")
    return str(path)


def test_it_takes_the_place_of_the_default(facts: DatasetInfo, config: str, tmp_path: Path) -> None:
    resolved, known = resolve(config).with_found(facts)
    plain = resolve(config)
    assert resolved.config.data.batch_size == 24
    assert "batch_size: 24" in to_yaml(resolved)
    assert "# returned by ./exp.py:data" in to_yaml(resolved)
    assert returned_lines(known) == ["data.batch_size: 24, as ./exp.py:data returns it"]
    rest = resolved.config.model_dump(mode="json")
    rest["data"]["batch_size"] = plain.config.data.batch_size
    assert rest == plain.config.model_dump(mode="json")
    (tmp_path / "again.yaml").write_text(to_yaml(resolved))
    assert resolve(str(tmp_path / "again.yaml")).config == resolved.config


def test_the_configs_own_counts(facts: DatasetInfo, config: str) -> None:
    own = resolve(config, ["data.batch_size=64"])
    resolved, known = own.with_found(facts)
    assert resolved is own
    assert returned_lines(known) == []


def test_one_that_does_not_go_with_other_settings_is_refused(facts: DatasetInfo, config: str) -> None:
    with pytest.raises(
        UsageError, match=r"data\.batch_size=24: \./exp\.py:data returns it, but: .*batch of 24"
    ):
        resolve(config, ["train.logical_ranks=32"]).with_found(facts)

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.launcher.sweep.results import _directions
from lockstep.training.check.loss_checks import check_directions
from lockstep.training.checkpoint.retention import BestCheckpoints
from lockstep.training.config.config_identity import identity_settings
from lockstep.training.config.run_config import RunConfig, RunSpec

SAID = {"use": "./exp.py:quality", "better": "lower"}


def _config(*metrics: Any, **sections: Any) -> RunConfig:
    return RunConfig.model_validate({"metrics": metrics, **sections})


def test_a_metric_is_written_as_it_was_given() -> None:
    given = ["accuracy", SAID]
    config = _config(*given)
    assert (
        json.loads(config.model_dump_json())["metrics"] == config.model_dump(mode="json")["metrics"] == given
    )
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("metric", "name", "way"),
    [
        (SAID, "val/quality", "min"),
        ({**SAID, "better": "higher"}, "val/quality", "max"),
        ("./exp.py:quality", "val/quality", None),
        ({"use": "accuracy", "better": "lower"}, "val/accuracy", "min"),
        ("accuracy", "val/accuracy", "max"),
        ("mae", "val/mae", "min"),
        (SAID, "train/loss", "min"),
    ],
)
def test_what_is_said_of_a_metric_goes_before_its_name(metric: Any, name: str, way: str | None) -> None:
    assert _config(metric).direction_of(name) == way


def test_the_best_checkpoint_and_patience_go_by_what_is_said() -> None:
    sections = {
        "checkpoint": {"monitor": "val/quality"},
        "train": {"early_stop": {"monitor": "val/quality", "patience": 1}},
    }
    config = _config(SAID, **sections).with_directions()
    ranking = BestCheckpoints()
    kept = [
        ranking.update(config.checkpoint, step, {"val/quality": value})
        for step, value in enumerate((2.0, 1.0, 3.0))
    ]
    assert kept == [True, True, False]
    assert config.train.early_stop is not None
    assert config.train.early_stop.mode == "min"
    asked = {"checkpoint": {"monitor": "val/quality", "mode": "max"}}
    assert _config(SAID, **asked).with_directions().checkpoint.mode == "max", "what is asked for goes first"


def test_which_way_is_better_does_not_make_another_run() -> None:
    assert identity_settings(_config(SAID)) == identity_settings(_config("./exp.py:quality"))
    assert identity_settings(_config(SAID)) != identity_settings(_config("./exp.py:other"))


def test_check_tells_which_way_is_better() -> None:
    told = check_directions(_config(SAID), ["quality"])
    assert (told.verdict, told.what) == ("PASS", "better is lower for val/loss, lower for val/quality")
    unknown = check_directions(_config("./exp.py:quality"), ["quality"])
    assert unknown.verdict == "PASS", "nothing depends on it"
    assert unknown.what.startswith(
        "better is lower for val/loss, unknown for val/quality; say it in metrics: "
    )


def test_a_sweep_is_ranked_by_what_its_config_says(pictures: DatasetInfo, tmp_path: Any) -> None:
    spec = RunSpec("one", _config(SAID), tmp_path, pictures, "cpu", "id")
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_json()))
    sweep, points = SimpleNamespace(run=lambda _: tmp_path), [SimpleNamespace(index=0)]
    assert _directions(cast("Any", sweep), cast("Any", points))("val/quality") == "min"
    assert _directions(cast("Any", sweep), [])("val/quality") is None

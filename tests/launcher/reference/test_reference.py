"""The reference has every option with its meaning, each is in a test or an example, and the document is up to date."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from lockstep.launcher.config.launch_config import LaunchConfig
from lockstep.launcher.config.resolution import resolve
from lockstep.launcher.reference import components
from lockstep.launcher.reference.markdown import reference
from lockstep.launcher.reference.option_list import (
    ITEM,
    NAMED,
    ConfigOption,
    config_models,
    config_options,
    config_sections,
    find_option,
)
from lockstep.launcher.slurm.option_declaration import declared_options
from lockstep.launcher.slurm.options import SlurmConfig
from lockstep.training.config.config_identity import flatten_config
from lockstep.training.config.run_config import RunConfig
from tests.helpers.paths import ROOT

WRITTEN = (
    "tests/**/*.py",
    "README.md",
    "docs/training.md",
    "docs/hosts.md",
    "slurm/README.md",
    "examples/**/*.yaml",
)


def test_the_document_is_what_the_models_say() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == reference(), "launch config reference > docs/configuration.md"


def test_every_option_has_a_meaning_that_is_a_sentence_and_a_type() -> None:
    for option in config_options().values():
        assert option.type, option.key
        assert re.match(r"[A-Z`]", option.meaning), f"{option.key}: {option.meaning!r}"
        assert option.meaning.endswith((".", "`")), option.key


def test_every_setting_of_a_config_is_an_option_and_no_other() -> None:
    for key in flatten_config(RunConfig()):
        assert find_option(tuple(key.split("."))) is not None, key
    assert {path[0] for path in config_options()} == set(LaunchConfig.model_fields)
    assert find_option(("train", "epoch")) is None
    assert find_option(("train", "epochs", "more")) is None


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("optimizers.mine.lr", "number > 0"),
        ("optimizers.mine.groups.3.momentum", "number (0 ≤ x < 1)"),
        ("optimizers.mine.schedule.warmup", "`500 steps`, `2 epochs`, `5 %`"),
        ("model.frozen.teacher.use", "text"),
        ("train.eval_every", "`500 steps`, `2 epochs`, `10 minutes`"),
        ("optimizer.betas", "2 numbers (0 ≤ x < 1)"),
        ("data.pad.to", "`longest`, whole number > 0"),
        ("metrics.0.better", "`lower`, `higher`"),
        ("train.seed", "whole number (0 ≤ x < 2^63)"),
    ],
)
def test_an_option_is_found_wherever_a_config_has_it(key: str, said: str) -> None:
    option = find_option(tuple(key.split(".")))
    assert option is not None
    assert (option.key.replace("[]", ".3"), option.type) == (key, said)


def test_units_and_owners_and_what_a_resumed_run_may_change_are_told() -> None:
    options = {option.key: option for option in config_options().values()}
    assert options["checkpoint.every_minutes"].unit == "minutes"
    assert options["slurm.hang_timeout"].unit == "seconds"
    assert options["optimizer.nesterov"].where == "`sgd`, `muon`"
    assert options["schedule.rise"].where == "`one_cycle`"
    free = {key for key in ("train.epochs", "train.seed", "log.profile") if options[key].may_change}
    assert free == {"train.epochs", "log.profile"}


@pytest.mark.parametrize("listed", ["data_sources", "models", "losses", "metrics", "schedules", "optimizers"])
def test_everything_that_can_be_named_is_described_with_its_arguments(listed: str) -> None:
    found = getattr(components, listed)()
    assert found
    for component in found:
        assert component.meaning, component.name
        for argument in component.arguments:
            assert argument.meaning or listed in ("schedules", "optimizers"), (component.name, argument.name)


def test_the_arguments_of_a_built_in_one_are_those_that_it_takes() -> None:
    named = {one.name: {argument.name for argument in one.arguments} for one in components.models()}
    assert named == {"linear": set(), "mlp": {"hidden", "dropout"}, "cnn": {"channels", "dropout"}}
    assert {one.name for one in components.metrics() if not one.arguments} == {"mae", "rmse", "r2"}


@cache
def _texts() -> tuple[str, ...]:
    here = Path(__file__).resolve().parent
    files = {path for pattern in WRITTEN for path in ROOT.glob(pattern) if here not in path.parents}
    return tuple(path.read_text(encoding="utf-8") for path in sorted(files))


@cache
def _configs() -> frozenset[tuple[str, ...]]:
    files = [*ROOT.glob("configs/*.yaml"), *ROOT.glob("examples/*/*.yaml")]
    return frozenset(path for file in files for path in _paths(yaml.safe_load(file.read_text()), ()))


def _paths(value: object, path: tuple[str, ...]) -> set[tuple[str, ...]]:
    if isinstance(value, list):
        return {found for item in value for found in _paths(item, (*path, ITEM))} | {path}
    if not isinstance(value, dict):
        return {path}
    return {path} | {found for key, item in value.items() for found in _paths(item, (*path, str(key)))}


def _is_written(option: ConfigOption) -> bool:
    """Whether a recipe or an example sets it, a test or a document says its dotted name, or a file that speaks of its
    section has it as a key, a keyword or a function of that name."""
    if any(_without_names(option.path) == _without_names(path) for path in _configs()):
        return True
    key = option.path[-1]
    flag = declared_options(SlurmConfig)[key].flag if option.path[0] == "slurm" else None
    alone = [re.escape(".".join(_without_names(option.path)))] + ([f"--{flag}"] if flag else [])
    section = "|".join(_names_of(option.path[:-1]))
    said = rf"(?:[\"'`]{key}[\"'`]|\b{key}\s*[:=(])"
    names = rf"\b(?:{section})\b"
    return any(
        re.search(rf"(?<![\w.-])(?:{'|'.join(alone)})\b", text)
        or (re.search(said, text) and re.search(names, text))
        for text in _texts()
        if key in text or f"--{flag}" in text
    )


def _names_of(path: tuple[str, ...]) -> list[str]:
    """How a file speaks of a section: by its key, or by the class that checks it."""
    classes = dict(zip((section.path for section in config_sections()), config_models(), strict=True))
    bases = [
        base.__name__ for base in classes[path].__mro__ if base.__name__.endswith(("Config", "Selection"))
    ]
    return [*_without_names(path)[-1:], *bases]


def _without_names(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for part in path if part not in (NAMED, ITEM))


def test_every_option_is_set_by_a_test_an_example_or_a_document() -> None:
    assert [option.key for option in config_options().values() if not _is_written(option)] == []


def test_the_schema_line_and_the_sample_of_the_introduction_work(tmp_path: Path) -> None:
    file = tmp_path / "exp.yaml"
    line = next(line for line in reference().splitlines() if line.startswith("# yaml-language-server"))
    file.write_text(f"{line}\ntrain: {{epochs: 2}}\n")
    assert resolve(str(file)).config.train.epochs == 2

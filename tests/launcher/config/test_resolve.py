import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.data.common.errors import UsageError
from lockstep.data.common.suggest import closest_name
from lockstep.launcher.config.resolution import recipes, resolve, to_yaml
from lockstep.training.config import trackers
from lockstep.training.config.config_identity import identity_settings, identity_sha256
from lockstep.training.config.run_config import RunConfig


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="a.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return write


def refusal(name, *overrides):
    with pytest.raises(UsageError) as caught:
        resolve(name, overrides)
    return caught.value


def lines(name, *overrides):
    return refusal(name, *overrides).message.splitlines()


# Which config


def test_without_a_name_it_is_digits():
    resolved = resolve(None, [])
    assert (resolved.name, resolved.config.data.use, resolved.config.data.batch_size) == (
        "digits",
        "digits",
        64,
    )
    assert resolved.config == resolve("digits").config


def test_there_are_the_recipes_that_the_documentation_names():
    assert set(recipes()) == {
        "cifar10",
        "csv",
        "csv_images",
        "digits",
        "fashion_mnist",
        "mnist",
        "regression",
    }


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_recipe_loads_and_says_how_to_run_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resolved = resolve(name, [])
    assert (resolved.name, resolved.base, resolved.source) == (name, tmp_path, recipes()[name])
    first = recipes()[name].read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert first.partition("  launch train")[2].startswith("" if name == "digits" else f" {name}")


def test_the_mnist_recipe_is_the_tutorial():
    config = resolve("mnist").config
    assert (config.data.use, config.data.val_size, config.data.batch_size) == ("mnist", 10000, 32)
    assert (config.model.use, config.model.args) == ("mlp", {"hidden": [128]})
    assert (config.optimizer.use, config.optimizer.lr, config.train.epochs) == ("adam", 1e-3, 5)


def test_the_regression_recipe_is_the_tutorial():
    config = resolve("regression").config
    assert (config.data.batch_size, config.data.val_size, config.metrics) == (20, 0, ())
    assert (config.optimizer.use, config.optimizer.lr, config.optimizer.momentum) == ("sgd", 1e-3, None)


def test_a_file_by_suffix_by_folder_and_by_being_there(write, tmp_path):
    (tmp_path / "sub").mkdir()
    write("train: {epochs: 7}", "sub/b.yml")
    write("train: {epochs: 8}", "plain")
    resolved = resolve("sub/b.yml")
    assert resolved.config.train.epochs == 7
    assert (resolved.name, resolved.base, resolved.source) == (
        "b",
        tmp_path / "sub",
        tmp_path / "sub" / "b.yml",
    )
    assert resolve("plain").config.train.epochs == 8
    assert resolve(str(tmp_path / "plain")).base == tmp_path


def test_a_recipe_wins_over_a_file_without_suffix_of_its_name(write):
    write("train: {epochs: 7}", "mnist")
    assert resolve("mnist").config.data.use == "mnist"
    assert resolve("./mnist").config.train.epochs == 7


def test_an_unknown_recipe(write):
    error = refusal("mnits")
    assert error.message == 'unknown config "mnits"'
    assert error.hint.startswith(
        'did you mean "mnist"? a config is a YAML file or one of the recipes cifar10, '
    )
    write("", "mine.yaml")
    assert refusal("mine").hint.startswith('did you mean "mine.yaml"?')
    assert "did you mean" not in refusal("qqqqqq").hint


def test_a_missing_file(write, tmp_path):
    (tmp_path / "sub").mkdir()
    write("", "sub/mine.yaml")
    error = refusal("sub/mnie.yaml")
    assert (error.message, error.hint.split("? ")[0]) == (
        "sub/mnie.yaml: there is no such file",
        "did you mean sub/mine.yaml",
    )
    assert refusal("nowhere/a.yaml").message == "nowhere/a.yaml: there is no such file"


@pytest.mark.parametrize(
    "name", ["a\0b", "a\0b.yaml", "\x1b[31m.yaml", "../" * 2000 + "a.yaml", "a" * 300, "."]
)
def test_odd_names(name):
    error = refusal(name)
    assert (error.message + error.hint).isprintable()


def test_a_time_limit_without_a_unit_is_minutes_as_for_sbatch_and_noted(write):
    write("slurm: {time: 10}", "job.yaml")
    found = resolve("job.yaml")
    assert found.slurm.time == "00:10:00"
    assert found.notes == ("time = 10 (job.yaml:1) is 10 minutes, as sbatch reads it",)
    assert resolve("job.yaml", ["slurm.time=2h"]).notes == ()


def test_an_empty_name_is_a_name():
    assert refusal("").message == 'unknown config ""'
    script = refusal("sub/exp.py")
    assert (script.message, "`launch run sub/exp.py`" in script.hint) == (
        "sub/exp.py: a script, not a config",
        True,
    )


def test_a_folder_is_no_config(write, tmp_path):
    (tmp_path / "sub.yaml").mkdir()
    assert lines("sub.yaml") == ["sub.yaml is a folder, not a config file"]
    assert lines("./") == ["./ is a folder, not a config file"]


# Layers


def test_later_wins_and_each_value_knows_where_it_came_from(write):
    write("data:\n  batch_size: 32\n  args: {a: 1, b: 2}\ntrain: {epochs: 3}\n")
    resolved = resolve("a.yaml", ["train.epochs=5", "data.args.b=3", "train.seed=1", "train.seed=2"])
    assert (resolved.config.train.epochs, resolved.config.train.seed) == (5, 2)
    assert resolved.config.data.args == {"a": 1, "b": 3}
    expected = {
        "data.batch_size": "a.yaml:2",
        "data.args.a": "a.yaml:3",
        "data.args.b": "override data.args.b=3",
        "train.epochs": "override train.epochs=5",
        "train.seed": "override train.seed=2",
        "train.precision": "default",
        "model.args": "default",
        "slurm": "default",
    }
    assert expected.items() <= resolved.origins.items()


def test_the_origins_are_those_of_every_value():
    origins = resolve("mnist").origins
    assert {"metrics", "optimizer.groups", "model.args.hidden", "data.root"} <= set(origins)
    assert origins["optimizer.lr"] == "mnist.yaml:6"


def test_an_override_sets_whole_lists_and_mappings(write):
    write("model: {args: {hidden: [128], dropout: 0.1}}\nmetrics: [accuracy]\n")
    resolved = resolve("a.yaml", ["model.args={hidden: [64]}", "metrics=[mae, accuracy]"])
    assert resolved.config.model.args == {"hidden": [64]}
    assert [metric.use for metric in resolved.config.metrics] == ["mae", "accuracy"]
    assert resolved.origins["model.args.hidden"] == "override model.args={hidden: [64]}"
    assert resolve("a.yaml", ["model.args.hidden=[64]"]).config.model.args == {"hidden": [64], "dropout": 0.1}
    assert resolve("a.yaml", ["data.args.more.deep=x"]).config.data.args["more"] == {"deep": "x"}
    assert resolve("a.yaml", ["data={use: mnist}"]).config.data.use == "mnist"


def test_an_override_has_the_rules_of_the_file():
    assert resolve(None, ["optimizer.lr=1e-2"]).config.optimizer.lr == 0.01
    assert resolve(None, ["wandb.project=no"]).config.wandb.project == "no"
    assert resolve(None, ["train.epochs=017"]).config.train.epochs == 17
    assert resolve("mnist", ["data.val_size="]).config.data.val_size is None
    assert resolve(None, [" train.epochs = 9 "]).config.train.epochs == 9
    assert resolve(None, ["wandb.project=a=b"]).config.wandb.project == "a=b"


@pytest.mark.parametrize("section", ["data", "model", "loss"])
def test_another_use_drops_the_arguments_of_the_old_one(write, section):
    write(f"{section}:\n  use: old\n  args: {{a: 1}}\n")
    resolved = resolve("a.yaml", [f"{section}.args.b=2", f"{section}.use=new"])
    assert getattr(resolved.config, section).args == {"b": 2}
    assert resolved.notes == (f"{section}.args of a.yaml:3 is left out, because {section}.use is now new",)
    same = resolve("a.yaml", [f"{section}.use=old"])
    assert getattr(same.config, section).args == {"a": 1}
    assert same.notes == ()


def test_the_arguments_of_the_default_stay_with_the_default(write):
    write("model: {args: {hidden: [3]}}")
    assert resolve("a.yaml", ["model.use=mlp"]).config.model.args == {"hidden": [3]}
    resolved = resolve("a.yaml", ["model.use=linear"])
    assert (resolved.config.model.args, resolved.origins["model.args"]) == ({}, "default")


def test_another_optimizer_drops_what_it_does_not_have(write):
    write("optimizer: {use: sgd, lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.1}")
    resolved = resolve("a.yaml", ["optimizer.use=adamw", "optimizer.betas=[0.9, 0.95]"])
    optimizer = resolved.config.optimizer
    assert (optimizer.momentum, optimizer.nesterov, optimizer.lr) == (None, None, 0.1)
    assert (optimizer.betas, optimizer.weight_decay) == ((0.9, 0.95), 0.1)
    assert len(resolved.notes) == 2
    write("optimizer: {eps: 1e-6, betas: [0.9, 0.95]}")
    assert resolve("a.yaml", ["optimizer.use=sgd"]).config.optimizer.betas is None
    assert resolve("a.yaml", ["optimizer.use=adamw"]).config.optimizer.eps == 1e-6


def test_what_the_command_line_itself_asks_for_is_not_dropped():
    [line] = lines("regression", "optimizer.use=adam", "optimizer.momentum=0.9")
    assert line == "override optimizer.momentum=0.9: optimizer.momentum = 0.9: adam has no momentum"


# The resolved config


def test_the_resolved_config_shows_every_origin(write):
    write("data: {batch_size: 32}\nmodel: {args: {hidden: [3]}}\n")
    text = to_yaml(resolve("a.yaml", ["train.epochs=7"]))
    shown = {line.split("#")[0].strip(): line.split("# ")[1] for line in text.splitlines()[1:] if "#" in line}
    assert shown["batch_size: 32"] == "a.yaml:1"
    assert shown["hidden: [3]"] == "a.yaml:2"
    assert shown["epochs: 7"] == "override train.epochs=7"
    assert shown["seed: 0"] == "default"
    assert len({line.index("#") for line in text.splitlines()[1:] if "#" in line}) == 1


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_resolved_recipe_reads_back(write, name):
    resolved = resolve(name, ["optimizer.groups=[{match: 'bias$', weight_decay: 0}]"])
    again = resolve(write(to_yaml(resolved)))
    assert again.config == resolved.config
    assert "default" not in again.origins.values()


_NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda name: not name.lower().endswith(("key", "token", "secret", "password", "passwd"))
)
_ARGS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(-1e308, 1e308)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(
    args=st.dictionaries(_NAMES, _ARGS, max_size=4),
    lr=st.floats(1e-300, 1e300),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_config_reads_back(tmp_path_factory, args, lr, seed):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    resolved = resolve(None, [])
    values = resolved.config.model_dump()
    values["data"]["args"], values["optimizer"]["lr"], values["train"]["seed"] = args, lr, seed
    config = RunConfig.model_validate(values)
    path.write_text(to_yaml_with_defaults(config, resolved), encoding="utf-8")
    first = resolve(str(path))
    assert first.config == config
    path.write_text(to_yaml(first), encoding="utf-8")
    assert repr(resolve(str(path)).config) == repr(config)


def to_yaml_with_defaults(config, resolved):
    class Anywhere(dict):
        def __missing__(self, key):
            return "default"

    return to_yaml(type(resolved)(config, resolved.slurm, Anywhere(), "any", Path.cwd(), Path.cwd()))


@given(st.text(st.sampled_from("abc.=[]{}:'\" \n!&*5\x1b\udce9")))
def test_any_override_is_taken_or_refused_in_printable_words(text):
    try:
        resolved = resolve(None, [f"model.args.{text}"])
    except UsageError as error:
        words = error.message
    else:
        words = to_yaml(resolved)
    assert all(line.isprintable() for line in words.split("\n"))


# Trackers


def test_a_tracker_without_its_package_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    assert resolve(None).config.tracking == ("wandb",)
    with pytest.raises(
        UsageError, match=r"tracking: tensorboard: .*pip install 'lockstep-train\[tensorboard\]'"
    ):
        resolve(None, ["tracking=[wandb, tensorboard]"])
    read = RunConfig.model_validate({"tracking": ["tensorboard"]})  # a run's spec is read wherever it lies
    assert read.tracking == ("tensorboard",)


def test_where_a_run_is_tracked_may_change_and_says_nothing_about_what_run_it_is():
    before = RunConfig().model_dump(mode="json")
    del before["tracking"]  # a run of an earlier version
    old, new = (
        RunConfig.model_validate(before),
        RunConfig.model_validate({"tracking": ["tensorboard", "a:b"]}),
    )
    assert identity_sha256(old) == identity_sha256(new)
    assert not [key for key in identity_settings(new) if key.startswith("tracking")]


# Around


METRICS = "metrics=[./own.py:quality, ./own.py:f1]"


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        ("checkpoint", "checkpoint.monitor=val/quality"),
        ("train.early_stop", "train.early_stop={monitor: val/quality}"),
    ],
)
def test_a_metric_whose_name_does_not_tell_which_way_is_better_needs_a_mode(key, setting):
    (line,) = lines("digits", METRICS, setting)
    assert f"{key}.monitor: the name val/quality does not tell whether less or more is better" in line
    assert (
        f"set {key}.mode=min or {key}.mode=max, or say it in metrics: {{use: …:quality, better: lower}}"
        in line
    )
    resolved = resolve("digits", [METRICS, setting, f"{key}.mode=min"])
    assert "mode: min" in to_yaml(resolved)


def test_the_resolved_config_says_which_way_is_better():
    resolved = resolve("digits", [METRICS, "checkpoint.monitor=val/f1"])
    assert resolved.origins["checkpoint.mode"] == "default: max, by the name val/f1"
    assert resolve("digits").origins["checkpoint.mode"] == "default: min, by the name val/loss"
    said = "metrics=[{use: ./own.py:f1, better: lower}, accuracy]"
    resolved = resolve("digits", [said, "checkpoint.monitor=val/f1", "train.early_stop={monitor: val/f1}"])
    assert resolved.origins["checkpoint.mode"] == "default: min, by metrics"
    assert resolved.origins["train.early_stop.mode"] == "default: min, by metrics"
    assert "metrics: [{use: ./own.py:f1, better: lower}, accuracy]" in to_yaml(resolved)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("[5]", "metrics[0] = 5: must be text; put it in quotes"),
        ("[{use: a, better: less}]", 'metrics[0].better = "less": must be one of lower, higher'),
        ("[{better: lower}]", 'metrics[0]: the key "use" is missing'),
        ("[{use: a, bettr: lower}]", 'unknown key "metrics[0].bettr"; did you mean "metrics[0].better"?'),
        ("accuracy", 'metrics = "accuracy": must be a list, such as [a, b]'),
    ],
)
def test_a_metric_is_a_name_or_a_mapping(metrics, message):
    (line,) = lines("digits", f"metrics={metrics}")
    assert message in line


def test_did_you_mean():
    assert closest_name("nmae", ["name", "size"]) == "name"
    assert closest_name("Batch-Size", ["batch_size"]) == "batch_size"
    assert closest_name("qqq", ["name", "size"]) is None
    assert closest_name("n" * 10**6, ["n" * 10**6]) is None
    assert closest_name("", []) is None


def test_reading_a_config_needs_no_torch():
    code = "import sys, lockstep.launcher.config.resolution as c; c.resolve('mnist'); print(*sys.modules)"
    names = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert not {"torch", "numpy", "pandas", "rich", "wandb", "typer"} & set(names.split())


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}\n"])
def test_a_file_that_says_nothing_is_noted(write, text):
    assert resolve(write(text)).notes == ("a.yaml says nothing: every setting has its default",)
    assert resolve(write("train: {epochs: 2}\n")).notes == ()

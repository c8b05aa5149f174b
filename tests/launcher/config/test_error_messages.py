import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.config.launch_config import LaunchConfig
from lockstep.launcher.config.resolution import resolve


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


PRECISIONS = "must be one of auto, fp32, bf16, fp16, fp64"
TRACKERS = "wandb, tensorboard, package.module:callable, ./file.py:callable"
MAPPING = "must be a mapping, such as {key: value}"


def test_every_mistake_at_once_each_with_its_place(write):
    write(
        "# mine\noptimizer:\n  lr: -0.001\n  nmae: adam\n  momentum: 0.9\n"
        "train: {precision: bf61,\n  epochs: '5'}\ndata: {use: a,\n  use: b}\nmodel: &x {}\n"
    )
    assert lines("./a.yaml", "train.epoch=5", "log", "train.seed=1.0") == [
        "./a.yaml:3: optimizer.lr = -0.001: must be greater than 0",
        './a.yaml:4: unknown key "optimizer.nmae"; did you mean "optimizer.use"?',
        "./a.yaml:5: optimizer.momentum = 0.9: adam has no momentum",
        f'./a.yaml:6: train.precision = "bf61": {PRECISIONS}; did you mean bf16?',
        './a.yaml:7: train.epochs = "5": must be a whole number; write 5 without the quotes',
        './a.yaml:9: "use" is set twice; first on line 8',
        "./a.yaml:10: anchors (&x) are not allowed; put text in quotes",
        'override train.epoch=5: unknown key "train.epoch"; did you mean "train.epochs"?',
        'override log: expected key=value, such as "train.epochs=5"',
        "override train.seed=1.0: train.seed = 1.0: must be a whole number",
    ]


UNKNOWN = [
    ("epochs: 5", '"epochs"; did you mean "train.epochs"?'),
    ("trian: {epochs: 5}", '"trian"; did you mean "train"?'),
    ("optimiser: {}", '"optimiser"; did you mean "optimizer"?'),
    ("learning_rate: 1", '"learning_rate"; did you mean "optimizer.lr"?'),
    ("train: {batch_size: 5}", '"train.batch_size"; did you mean "data.batch_size"?'),
    ("train: {lr: 5}", '"train.lr"; did you mean "optimizer.lr"?'),
    ("train: {max-steps: 5}", '"train.max-steps"; did you mean "train.max_steps"?'),
    ("train: {Seed: 5}", '"train.Seed"; did you mean "train.seed"?'),
    ("model: {name: mlp}", '"model.name"; did you mean "model.use"?'),
    (
        "optimizer: {groups: [{match: a, weight_decya: 1}]}",
        '"optimizer.groups[0].weight_decya"; did you mean "opt',
    ),
    ("batchsize: 3", '"batchsize"; did you mean "data.batch_size"?'),
    ("log: {qqqqqq: 3}", '"log.qqqqqq"; log has every_steps'),
    ("qqqqqq: 3", '"qqqqqq"; a config has data, model, '),
    ("slurm: {zzzzzz: 3}", '"slurm.zzzzzz"; slurm has nodes, gpus, '),
    ("qqq: x", '"qqq"; a config has data, model, '),
    ("args: {}", '"args"; a config has data, model, '),
    ("train.epochs: 3", '"train.epochs": dots do not nest in a file; write train: {epochs: ...}'),
    ('"a\\e[31m": 3', '"a\\u001b[31m"; a config has'),
]


@pytest.mark.parametrize(("text", "message"), UNKNOWN)
def test_unknown_keys(write, text, message):
    [line] = lines(write(text))
    assert line.startswith("a.yaml:1: unknown key " + message)


def test_unknown_keys_on_the_command_line():
    keys = ", ".join(LaunchConfig.model_fields)
    assert lines(None, "trian.epochs=6", "foo.bar.baz=1", "--train.epochs=5") == [
        'override trian.epochs=6: unknown key "trian.epochs"; did you mean "train.epochs"?',
        f'override foo.bar.baz=1: unknown key "foo.bar.baz"; a config has {keys}',
        'override --train.epochs=5: unknown key "--train.epochs"; did you mean "train.epochs"?',
    ]


TYPES = [
    ("train: {epochs: '5'}", 'train.epochs = "5": must be a whole number; write 5 without the quotes'),
    ("train: {epochs: true}", "train.epochs = true: must be a whole number"),
    ("train: {epochs: 1.0}", "train.epochs = 1.0: must be a whole number"),
    ("train: {epochs: many}", 'train.epochs = "many": must be a whole number'),
    (
        "train: {epochs: null}",
        "train.epochs = null: must be a whole number; leave the key out for its default",
    ),
    ("train: {epochs: [5]}", "train.epochs: must be a whole number, not a list"),
    ("train: {epochs: 0}", "train.epochs = 0: must be greater than 0"),
    ("train: {seed: -1}", "train.seed = -1: must be at least 0"),
    (
        "train: {seed: 9223372036854775808}",
        "train.seed = 9223372036854775808: must be less than 9223372036854775808",
    ),
    ("train: {deterministic: yes}", 'train.deterministic = "yes": must be true or false'),
    ("train: {deterministic: 1}", "train.deterministic = 1: must be true or false"),
    (
        "train: {precision: fp8}",
        'train.precision = "fp8": fp8 is not built in: its scales are usually those of',
    ),
    ("train: {precision: float8_e4m3fn}", 'train.precision = "float8_e4m3fn": fp8 is not built in'),
    ("train: {precision: 16}", "train.precision = 16: must be one of auto, fp32, bf16, fp16, fp64"),
    ("train: {precision: {}}", "train.precision: must be one of auto, fp32, bf16, fp16, fp64, not a mapping"),
    ("train: 5", "train = 5: must be a mapping, such as {key: value}"),
    (
        "train:",
        f"train = null: {MAPPING}; leave the key out for its default, or write {{}}",
    ),
    ("train: []", "train: must be a mapping, such as {key: value}, not a list"),
    ("model: {args: [1]}", "model.args: must be a mapping, such as {key: value}, not a list"),
    ("model: {use: 5}", "model.use = 5: must be text; put it in quotes"),
    ("model: {use: ''}", 'model.use = "": must not be empty'),
    ("metrics: accuracy", 'metrics = "accuracy": must be a list, such as [a, b]'),
    ("metrics: [1]", "metrics[0] = 1: must be text; put it in quotes"),
    ("optimizer: {lr: '1e-3'}", 'optimizer.lr = "1e-3": must be a number; write 1e-3 without the quotes'),
    ("optimizer: {lr: true}", "optimizer.lr = true: must be a number"),
    ("optimizer: {lr: .nan}", "optimizer.lr = nan: must be a finite number"),
    ("optimizer: {lr: 1e999}", "optimizer.lr = inf: must be a finite number"),
    ("optimizer: {lr: nan}", 'optimizer.lr = "nan": must be a number'),
    ("optimizer: {betas: [0.9]}", "optimizer.betas: must have at least 2 values"),
    ("optimizer: {betas: [0.9, 0.8, 0.7]}", "optimizer.betas: must have at most 2 values, not 3"),
    ("optimizer: {betas: [0.9, 1]}", "optimizer.betas[1] = 1: must be less than 1"),
    (
        "optimizer: {groups: [{lr: 1}]}",
        "optimizer.groups[0]: say which parameters it is for: match, max_ndim or min_ndim",
    ),
    ("optimizer: {groups: [{match: '('}]}", 'optimizer.groups[0].match = "(": not a regular expression: '),
    ("optimizer: {use: sgd, eps: 1e-8}", "optimizer.eps = 1e-08: sgd has no eps"),
    ("optimizer: {use: sgd, nesterov: true}", "optimizer.nesterov = true: nesterov needs a momentum above 0"),
    ("data: {args: {a: [1, {b: -.inf}]}}", "data.args.a[1].b = -inf: must be a finite number"),
    ("wandb: {mode: of}", 'wandb.mode = "of": must be one of auto, online, offline, disabled'),
    (
        "tracking: [tensorbord]",
        f'tracking[0] = "tensorbord": must be one of {TRACKERS}; did you mean tensorboard?',
    ),
    ("tracking: ['./own.py:']", f'tracking[0] = "./own.py:": must be one of {TRACKERS}'),
    ("tracking: [wandb, './a.py:b', './a.py:b']", "tracking: ./a.py:b is there twice"),
    ("tracking: wandb", 'tracking = "wandb": must be a list, such as [a, b]'),
    ("wandb: {project: 5}", "wandb.project = 5: must be text; put it in quotes"),
    ("loss: {use: {a: 1}}", "loss.use: must be text, not a mapping"),
]


@pytest.mark.parametrize(("text", "message"), TYPES)
def test_wrong_values(write, text, message):
    [line] = lines(write("\n" + text))
    assert line.startswith("a.yaml:2: " + message)
    assert "Input" not in line


def test_right_values_of_other_types(write):
    write("optimizer: {lr: 1, betas: [0, 0.5], groups: []}\ndata: {root: null, val_size: null}\nmetrics: []")
    config = resolve("a.yaml").config
    assert (config.optimizer.lr, config.optimizer.betas) == (1.0, (0.0, 0.5))
    assert isinstance(config.optimizer.lr, float)
    assert (config.data.root, config.metrics) == (None, ())


def test_mistakes_name_the_line_of_the_list_item(write):
    write("optimizer:\n groups:\n  - match: bias$\n    lr: -1\n  - {match: w,\n     wd: 1}\n  - lr: 1\n")
    assert [line.split(":")[1] for line in lines("a.yaml")] == ["4", "6", "7"]


def test_a_long_value_is_shortened(write):
    [line] = lines(write(f"train: {{epochs: {'x' * 5000}}}"))
    assert len(line) < 150


def test_many_mistakes_fit_a_screen(write):
    write("\n".join(f"key{number}: 1" for number in range(500)))
    found = lines("a.yaml")
    assert (len(found), found[-1]) == (21, "... and 480 more")


OVERRIDES = [
    ("train.epochs", 'override train.epochs: expected key=value, such as "train.epochs=5"'),
    ("=5", "override =5: a key is missing before the = or between two dots"),
    ("train..epochs=5", "override train..epochs=5: a key is missing before the = or between two dots"),
    ("metrics.0=mae", "override metrics.0=mae: metrics is a list; set the whole of it"),
    ("optimizer.lr.x=1", "override optimizer.lr.x=1: optimizer.lr is a number; set the whole of it"),
    ("train.epochs=[1", "override train.epochs=[1: not valid YAML"),
    ("model.args.x=!!python/object:os.system x", "override model.args.x=!!python/object:os.system x: tags"),
    ("train=", "override train=: train = null: must be a mapping"),
    (
        "train.epochs=\x1b[31m",
        'override train.epochs=\\u001b[31m: train.epochs = "\\u001b[31m": must be a whole',
    ),
    (".".join(["model.args"] + ["x"] * 20) + "=[]", "override model.args.x."),
    ("wandb.project=caf\udce9", "override wandb.project=caf\\udce9: text that is not valid Unicode"),
    ("wandb.caf\udce9=1", "override wandb.caf\\udce9=1: "),
]


@pytest.mark.parametrize(("override", "message"), OVERRIDES)
def test_wrong_overrides(override, message):
    [line] = lines("mnist", override)
    assert line.startswith(message)


SECRETS = [
    ("wandb: {api_key: abcdef}", "wandb.api_key"),
    ("data: {args: {hub-token: abcdef}}", "data.args.hub-token"),
    ("data: {args: {deep: [{PASSWORD: abcdef}]}}", "data.args.deep[0].PASSWORD"),
    ("client_secret: abcdef", "client_secret"),
]


@pytest.mark.parametrize(("text", "key"), SECRETS)
def test_secrets_are_refused_and_not_repeated(write, text, key):
    [line] = lines(write(text))
    assert line.startswith(f"a.yaml:1: {key} looks like a secret: ")
    assert "environment" in line
    assert "abcdef" not in line


@pytest.mark.parametrize(
    "override", ["wandb.api_key=abcdef", "data.args={token: abcdef}", "model.args.token=[abcdef"]
)
def test_secrets_on_the_command_line_are_refused_and_not_repeated(override):
    error = refusal(None, override)
    assert "abcdef" not in error.message + error.hint


def test_a_switch_is_no_secret(write):
    assert (
        resolve(write("data: {args: {class_token: true, tokens: 5}}")).config.data.args["class_token"] is True
    )


def test_nothing_in_a_file_runs(write, tmp_path):
    mark = tmp_path / "ran"
    write(f"model: {{args: {{x: !!python/object/apply:pathlib.Path.touch ['{mark}']}}}}")
    assert "tags" in lines("a.yaml")[0]
    assert not mark.exists()


def test_hundreds_of_unknown_keys_take_no_hundreds_of_guesses(write):
    write("log:\n" + "".join(f"  key{number}: 1\n" for number in range(500)) + "  every_step: 1\n")
    found = lines("a.yaml")
    assert found[0].startswith('a.yaml:2: unknown key "log.key0"; log has every_steps')
    assert len(found) == 21


def test_a_long_override_is_shortened():
    [line] = lines(None, "train.epochs=" + "x" * 5000)
    assert len(line) < 220

"""What the first pass shows of a model: what makes it depend on the number of processes, and what is lost."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.training.session.build import build_training
from lockstep.training.session.session import Session
from lockstep.training.session.training import Training
from tests.helpers.evaluation_models import EVALUATION_CODE, EVALUATION_CONFIG
from tests.helpers.sessions import open_session
from tests.helpers.user_project import USER_CODE

TAIL = "data.batch_size=2"  # of 203 samples: the last one is alone
OWN = "buffers that learn from each process's own samples"
COUNTING = """
def dropping():
    return nn.Sequential(nn.Linear(7, 8), nn.Dropout(0.5), nn.Linear(8, 2))

class Centred(nn.Linear):
    def __init__(self):
        super().__init__(7, 2)
    def forward(self, x):
        return super().forward(x - x.mean(0) if self.training else x)

def hooked(how):
    model = nn.Sequential(nn.Linear(7, 2))
    model[0].weight.register_hook({
        "limited": lambda gradient: gradient.clamp(-10, 10),
        "masked": lambda gradient: gradient * (torch.arange(7) % 2),
    }[how])
    return model

def jittered(samples):
    return torch.stack([x for x, _ in samples]) + torch.rand(()), torch.stack([y for _, y in samples])

def one_by_one(n=203, m=101):
    return {name: torch.utils.data.Subset(torch.utils.data.TensorDataset(x, y), range(len(x)))
            for name, (x, y) in data(n, m).items()}

class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(7, 2)
        self.register_buffer("calls", torch.tensor([0.0, torch.nan]))  # of what never happened, no number
    def forward(self, x):
        self.calls += 1
        return self.last(x)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(USER_CODE + EVALUATION_CODE + COUNTING)
    (tmp_path / "own.yaml").write_text(EVALUATION_CONFIG)
    return tmp_path / "own.yaml"


def _build(config: Path, *settings: str) -> Training:
    return build_training(open_session(config, list(settings)))


@pytest.mark.parametrize("how", ["train", "forward"])
def test_a_frozen_batch_norm_is_no_batch_norm(config: Path, how: str) -> None:
    training = _build(config, "model.use=./own.py:Frozen", f"model.args.how={how}", TAIL)
    assert training.depends_on_world == []
    assert training.session.model.training


@pytest.mark.parametrize(
    "settings",
    [
        ["model.use=./own.py:Frozen", "model.args.how=nothing"],
        ["model.use=./own.py:Normed", "model.args.norm=BatchNorm1d"],
        ["model.use=./own.py:Mixing"],
    ],
)
def test_a_batch_norm_that_trains_needs_two_samples(config: Path, settings: list[str]) -> None:
    with pytest.raises(UsageError, match="the model has batch norm"):
        _build(config, *settings, TAIL)
    assert _build(config, *settings).depends_on_world == ["batch norm"]


@pytest.mark.parametrize(
    ("settings", "depends"),
    [
        (["model.use=./own.py:model"], []),
        (["model.use=./own.py:dropping"], ["dropout"]),
        (["model.use=./own.py:Counting"], []),
        (["model.use=./own.py:Vae", "loss.use=./own.py:elbo", "metrics=[]"], ["random draws"]),
        (["model.use=./own.py:Drawing", "model.args.source=numpy global"], ["random draws"]),
        (["model.use=./own.py:Codebook"], [f"{OWN} (codes)"]),
        (["model.use=./own.py:Writing"], [f"{OWN} (mean)"]),
        (["model.use=./own.py:OwnNorm"], [f"{OWN} (running_mean, running_var)"]),
        (["model.use=./own.py:Centred"], ["outputs that depend on the other samples of a batch"]),
        (
            ["model.use=./own.py:hooked", "model.args.how=limited"],
            ["hooks that change gradients before they are added up (0.weight)"],
        ),
        (["model.use=./own.py:hooked", "model.args.how=masked"], []),
    ],
)
def test_what_depends_on_the_number_of_processes_is_named(
    config: Path, settings: list[str], depends: list[str]
) -> None:
    assert _build(config, *settings).depends_on_world == depends


def test_a_buffer_that_learns_and_that_no_checkpoint_has_is_said(config: Path) -> None:
    lost = _build(config, "model.use=./own.py:Codebook", "model.args.persistent=false")
    (note,) = lost.notes
    assert note.startswith("warning: codes learns, but no checkpoint has it")
    assert _build(config, "model.use=./own.py:Codebook").notes == []


def test_a_rank_without_a_sample_computes_two_that_differ(config: Path) -> None:
    session: Session = open_session(config, ["data.batch_size=3"])
    session = Session(**{**vars(session), "group": type(session.group)(0, 0, 4, session.group.device)})
    work = next(session.train_work(0, 0))
    assert work.stand_in
    assert np.unique(work.indices).size == 2


def test_a_step_that_never_calls_the_model_is_not_said_to_be_compiled(own: Path) -> None:
    code = "\ndef by_parts(model, batch):\n    out = model[2](model[1](model[0](batch[0])))\n"
    code += "    return nn.functional.cross_entropy(out, batch[1], reduction='none')\n"
    (own / "own.py").write_text((own / "own.py").read_text() + code)
    settings = ["step=./own.py:by_parts", "metrics=[]"]
    with pytest.raises(UsageError, match="nothing of it would be compiled"):
        build_training(open_session(own / "own.yaml", [*settings, "train.compile=true"]))
    build_training(open_session(own / "own.yaml", settings))


PLAIN = """
class Plain(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.last, self.kind = nn.Linear(7, 2), kind
        self.calls, self.mean, self.seen, self.table = 0, torch.zeros(7), [], None
        self.own = np.zeros(1)
        self.shared, seen = self.seen, self.seen
        self.last.register_forward_hook(lambda *_: seen.append(1.0) if kind == "hook" else None)
    def forward(self, x):
        if self.kind == "hook":
            self.seen.clear()
            assert self.last(x) is not None and self.seen == [1.0]
        if self.training:
            self.calls += self.kind in ("counts", "scales")
            if self.kind == "learns":
                self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
            if self.kind == "list":
                self.seen.append(float(x.detach().sum()))
            if self.kind == "array":
                self.own += 1
            if self.kind == "closure":
                COUNT.append(1)
        if self.kind == "writes":
            x.mul_(2)
        if self.kind == "output":
            self.table = self.last(x)
        h = self.last(x - self.mean)
        return h * {"scales": self.calls, "list": len(self.seen), "closure": len(COUNT)}.get(self.kind, 1)

COUNT = []
"""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "counts",
            "calls of the model changes with every training pass, and no checkpoint has it: a resumed",
        ),
        ("array", "own of the model changes with every training pass"),
        ("scales", "keeps something in calls from one training pass to the next, its output depends on it"),
        ("learns", "keeps something in mean from one"),
        ("list", "keeps something in seen, shared from one"),
        ("closure", "keeps something from one"),
        ("output", ""),
        ("hook", ""),
        ("writes", ""),
        ("nothing", ""),
    ],
)
def test_what_a_model_keeps_in_plain_attributes_is_told_and_left_as_it_was(
    config: Path, kind: str, words: str
) -> None:
    with (config.parent / "own.py").open("a") as file:
        file.write(PLAIN)
    training = _build(config, "model.use=./own.py:Plain", f"model.args.kind={kind}")
    assert [words in note for note in training.notes] == ([True] if words else [])
    model = training.session.model
    assert (model.calls, float(model.mean.sum()), model.seen, model.own) == (0, 0.0, [], [0.0])
    assert model.shared is model.seen
    model(torch.zeros(2, 7, dtype=torch.float64))


UNREGISTERED = """
HEAD = nn.Linear(8, 2, dtype=torch.float64)

class Unregistered(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.first, self.kind = nn.Linear(7, 8), kind
        self.layers = [nn.Linear(8, 8, dtype=torch.float64) for _ in range(2)]
        self.by_name = {"gain": torch.ones(8, dtype=torch.float64, requires_grad=kind == "plain tensor")}
        self.last = nn.Linear(8, 2)
        if kind == "frozen":
            for layer in self.layers:
                layer.requires_grad_(False)
    def forward(self, x):
        h = self.first(x)
        if self.kind in ("list", "frozen"):
            h = self.layers[1](self.layers[0](h))
        if self.kind == "no gradient":
            with torch.no_grad():
                h = h + self.layers[0](h)
        if self.kind == "penalty":
            x = x.detach().requires_grad_()
            h = h + self.first(x)
        if self.kind == "outside":
            return HEAD(h)
        return self.last(h * self.by_name["gain"])
"""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "list",
            "depends on layers[0].bias, layers[0].weight, layers[1].bias and 1 more, which the model does not",
        ),
        ("plain tensor", "depends on by_name['gain'], which the model"),
        ("outside", "depends on a parameter of shape [2, 8], a parameter of shape [2], which"),
        ("frozen", ""),
        ("no gradient", ""),
        ("penalty", ""),
    ],
)
def test_what_the_loss_reaches_and_nobody_trains_is_refused(config: Path, kind: str, words: str) -> None:
    """A list of layers in fp32: it trains the others, without an error."""
    with (config.parent / "own.py").open("a") as file:
        file.write(UNREGISTERED)
    settings = ("model.use=./own.py:Unregistered", f"model.args.kind={kind}")
    if not words:
        _build(config, *settings)
        return
    with pytest.raises(TrainingError, match=re.escape(words)):
        _build(config, *settings)


def test_draws_in_training_that_no_step_seeds_are_said(config: Path) -> None:
    notes = _build(config, "model.use=./own.py:Drawing", "model.args.source=numpy global").notes
    assert any(
        "in training the model draws from NumPy's generator, which no step seeds" in note for note in notes
    )
    assert not any("no step seeds" in note for note in _build(config, "model.use=./own.py:dropping").notes)


def test_a_collate_function_that_draws_is_said(config: Path) -> None:
    settings = ["model.use=./own.py:model", "data.use=./own.py:one_by_one", "data.collate=./own.py:jittered"]
    training = _build(config, *settings)
    assert any("data.collate makes something else of a sample in another batch" in n for n in training.notes)


def test_a_loss_that_reaches_nothing_is_refused(config: Path) -> None:
    own = config.with_name("own.py")
    own.write_text(own.read_text() + "\ndef cut_off(o, y): return per_sample(o.detach(), y)\n")
    with pytest.raises(TrainingError, match="the loss depends on no parameter"):
        _build(config, "loss.use=./own.py:cut_off")

"""torch's own losses, however a config names them and a batch is cut: torch's mean over the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from lockstep.data.common.errors import LockstepError, TrainingError, UsageError
from lockstep.training.check.loss_checks import Cut, check_loss, split, split_outputs
from lockstep.training.config.objective_config import LossConfig
from lockstep.training.config.run_config import RunConfig
from lockstep.training.losses.loss_contract import sum_loss
from lockstep.training.losses.losses import build_loss, cross_entropy
from lockstep.training.metrics.metrics import build_metrics

N = 12
_GENERATOR = torch.Generator().manual_seed(3)
SCORES = torch.randn(N, 3, generator=_GENERATOR, dtype=torch.float64)
LABELS = torch.randint(3, (N,), generator=_GENERATOR)
SOME_IGNORED = torch.where(torch.arange(N) % 4 == 1, -100, LABELS)
MAPS = torch.randn(N, 3, 2, 2, generator=_GENERATOR, dtype=torch.float64)
MASKS = torch.where(torch.arange(N * 4) % 5 == 0, 255, torch.arange(N * 4) % 3).view(N, 2, 2)
BITS = (SCORES > 0.3).double()
NUMBERS = torch.randn(N, 3, generator=_GENERATOR, dtype=torch.float64)
WEIGHT = [0.5, 2.0, 1.0]

CASES: dict[str, tuple[str, dict[str, Any], torch.Tensor, torch.Tensor]] = {
    "class": ("torch.nn:CrossEntropyLoss", {}, SCORES, LABELS),
    "class, some ignored": ("torch.nn:CrossEntropyLoss", {}, SCORES, SOME_IGNORED),
    "class weights": ("torch.nn:CrossEntropyLoss", {"weight": WEIGHT}, SCORES, SOME_IGNORED),
    "smoothing": (
        "torch.nn:CrossEntropyLoss",
        {"label_smoothing": 0.1, "weight": WEIGHT},
        SCORES,
        SOME_IGNORED,
    ),
    "maps": ("torch.nn:CrossEntropyLoss", {"ignore_index": 255, "weight": WEIGHT}, MAPS, MASKS),
    "probabilities": ("torch.nn:CrossEntropyLoss", {"weight": WEIGHT}, SCORES, NUMBERS.softmax(1)),
    "nll": ("torch.nn:NLLLoss", {"ignore_index": 1}, SCORES.log_softmax(1), LABELS),
    "function, none": ("torch.nn.functional:cross_entropy", {"reduction": "none"}, SCORES, SOME_IGNORED),
    "function, mean": ("torch.nn.functional:cross_entropy", {"reduction": "mean"}, SCORES, SOME_IGNORED),
    "function": ("torch.nn.functional:nll_loss", {"weight": WEIGHT}, SCORES.log_softmax(1), SOME_IGNORED),
    "mse": ("torch.nn:MSELoss", {}, SCORES, NUMBERS),
    "mse, none": ("torch.nn.functional:mse_loss", {"reduction": "none"}, SCORES, NUMBERS),
    "l1": ("torch.nn:L1Loss", {}, SCORES[:, 0], NUMBERS[:, 0]),
    "smooth l1": ("torch.nn:SmoothL1Loss", {"beta": 0.3}, SCORES, NUMBERS),
    "huber": ("torch.nn:HuberLoss", {"delta": 0.3}, SCORES, NUMBERS),
    "bce": ("torch.nn:BCELoss", {}, SCORES.sigmoid(), BITS),
    "bce of scores": ("torch.nn:BCEWithLogitsLoss", {"pos_weight": WEIGHT}, SCORES, BITS),
    "kl": ("torch.nn:KLDivLoss", {}, SCORES.log_softmax(1), NUMBERS.softmax(1)),
    "kl by batch": (
        "torch.nn:KLDivLoss",
        {"reduction": "batchmean"},
        SCORES.log_softmax(1),
        NUMBERS.softmax(1),
    ),
    "poisson": ("torch.nn:PoissonNLLLoss", {"log_input": False}, SCORES.exp(), BITS),
    "soft margin": ("torch.nn:SoftMarginLoss", {}, SCORES, 2 * BITS - 1),
    "hinge": ("torch.nn:HingeEmbeddingLoss", {"margin": 2.0}, SCORES, 2 * BITS - 1),
    "multi margin": ("torch.nn:MultiMarginLoss", {"weight": WEIGHT}, SCORES, LABELS),
    "multi label": ("torch.nn:MultiLabelSoftMarginLoss", {"weight": WEIGHT}, SCORES, BITS),
}


def _torchs(use: str, args: dict[str, Any], output: torch.Tensor, target: torch.Tensor) -> float:
    """What torch's own mean gives of the whole batch."""
    found = getattr(functional if "functional" in use else nn, use.rpartition(":")[2])
    tensors = {
        key: output.new_tensor(value) if isinstance(value, list) else value for key, value in args.items()
    }
    if args.get("reduction") == "none":
        tensors["reduction"] = "mean"
    value = found(**tensors)(output, target) if isinstance(found, type) else found(output, target, **tensors)
    return float(value)


def _over(cut: list[int], loss: Any, output: torch.Tensor, target: torch.Tensor) -> float:
    parts = zip(output.split(cut), target.split(cut), cut, strict=True)
    sums = [(sum_loss(loss(o, t), size), size) for o, t, size in parts]
    weight = sum(float(size if weight is None else weight) for (_, weight), size in sums)
    return sum(float(summed) for (summed, _), _ in sums) / weight


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")  # of torch's kl_div
@pytest.mark.parametrize("cut", [[12], [1, 7, 4], [1] * 12])
@pytest.mark.parametrize("case", CASES)
def test_the_mean_is_torchs_however_the_batch_is_cut(case: str, cut: list[int]) -> None:
    use, args, output, target = CASES[case]
    loss = build_loss(LossConfig(use=use, args=args), Path())
    assert _over(cut, loss, output, target) == pytest.approx(_torchs(use, args, output, target), rel=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_launch_check_has_nothing_against_them(case: str) -> None:
    use, args, output, target = CASES[case]
    sizes = [1, 2, 9]
    loss = build_loss(LossConfig(use=use, args=args), Path())
    candidates = split_outputs(output, target, sizes)[:1]
    found = check_loss(loss, Cut(candidates, target, split(target, sizes), sizes))
    assert found.verdict == "PASS", found


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32])
@pytest.mark.parametrize(
    "use", ["cross_entropy", "torch.nn:CrossEntropyLoss", "torch.nn.functional:cross_entropy"]
)
def test_class_labels_are_whole_numbers_of_any_type(use: str, dtype: torch.dtype) -> None:
    loss = build_loss(LossConfig(use=use), Path())
    expected = float(functional.cross_entropy(SCORES, LABELS))
    assert _over([5, 7], loss, SCORES, LABELS.to(dtype)) == pytest.approx(expected, rel=1e-13)
    (accuracy,) = build_metrics(RunConfig(), Path()).values()
    assert int(accuracy(SCORES, LABELS.to(dtype))[0]) == int((SCORES.argmax(1) == LABELS).sum())


def test_whole_numbers_are_the_targets_of_any_loss() -> None:
    loss = build_loss(LossConfig(use="torch.nn:BCEWithLogitsLoss"), Path())
    expected = float(functional.binary_cross_entropy_with_logits(SCORES, BITS))
    assert _over([12], loss, SCORES, BITS.int()) == pytest.approx(expected, rel=1e-13)


def test_weights_are_of_the_models_type() -> None:
    loss = build_loss(LossConfig(use="torch.nn:CrossEntropyLoss", args={"weight": WEIGHT}), Path())
    for scores in (SCORES, SCORES.float()):
        expected = functional.cross_entropy(scores, LABELS, weight=scores.new_tensor(WEIGHT))
        assert _over([12], loss, scores, LABELS) == pytest.approx(float(expected), rel=1e-6)


def test_a_module_that_the_users_file_holds_is_used_as_it_was_made(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\n"
        f"criterion = torch.nn.CrossEntropyLoss(weight=torch.tensor({WEIGHT}), ignore_index=1)\n"
        "from torch.nn import CrossEntropyLoss as Mine\n"
    )
    args = {"weight": torch.tensor(WEIGHT).double(), "ignore_index": 1}
    expected = float(functional.cross_entropy(SCORES, LABELS, **args))
    loss = build_loss(LossConfig(use="./own.py:criterion"), tmp_path)
    assert _over([5, 7], loss, SCORES, LABELS) == pytest.approx(expected, rel=1e-7)
    config = LossConfig(use="./own.py:Mine", args={"weight": WEIGHT, "ignore_index": 1})
    assert _over([5, 7], build_loss(config, tmp_path), SCORES, LABELS) == pytest.approx(expected, rel=1e-13)


OWN = """
import torch
from torch import nn

class Focal(nn.Module):
    def __init__(self, gamma, reduction="mean"):
        super().__init__()
        self.gamma, self.reduction = gamma, reduction
    def forward(self, output, target):
        losses = nn.functional.cross_entropy(output, target, reduction="none") * self.gamma
        return losses.mean() if self.reduction == "mean" else losses

class Plain:
    def __call__(self, output, target): return (output[:, 0] - target) ** 2

class Mine(nn.CrossEntropyLoss):
    def forward(self, output, target): return 2 * nn.functional.cross_entropy(output, target, reduction=self.reduction)

class Learns(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
    def forward(self, output, target): return output[:, 0] * self.scale

class Silent: ...

class Breaks:
    def __init__(self): raise KeyError("no such table")

def mean(output, target, reduction="mean"):
    losses = (output[:, 0] - target) ** 2
    return losses.mean() if reduction == "mean" else losses
"""


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("Focal", {"gamma": 3.0}, lambda: 3 * functional.cross_entropy(SCORES, LABELS)),
        ("Plain", {}, ((SCORES[:, 0] - LABELS) ** 2).mean),
        ("Mine", {}, lambda: 2 * functional.cross_entropy(SCORES, LABELS)),
        ("mean", {}, ((SCORES[:, 0] - LABELS) ** 2).mean),
    ],
)
def test_of_a_class_an_instance_is_made_and_a_reduction_is_none(
    tmp_path: Path, name: str, args: dict[str, Any], expected: Any
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    loss = build_loss(LossConfig(use=f"./own.py:{name}", args=args), tmp_path)
    assert _over([1, 7, 4], loss, SCORES, LABELS) == pytest.approx(float(expected()), rel=1e-13)


@pytest.mark.parametrize(
    ("use", "args", "kind", "words"),
    [
        ("./own.py:Learns", {}, TrainingError, "has parameters that nothing trains: scale"),
        ("./own.py:Silent", {}, TrainingError, "an instance cannot be called"),
        ("./own.py:Breaks", {}, TrainingError, r"own.py:\d+\): KeyError: 'no such table'"),
        ("./own.py:Focal", {"gama": 1}, TrainingError, "gama"),
        ("torch.nn:CrossEntropyLoss", {"reduction": "sum"}, UsageError, "reduction = sum"),
        ("torch.nn.functional:mse_loss", {"reduction": "batchmean"}, UsageError, "reduction = batchmean"),
        ("torch.nn:MSELoss", {"size_average": False}, UsageError, "size_average"),
        ("torch.nn:MSELoss", {"margin": 1}, UsageError, "margin"),
        ("torch.nn.functional:mse_loss", {"weight": [1.0]}, UsageError, "loss.args.weight"),
        ("torch.nn.functional:cross_entropy", {"ignor_index": 1}, UsageError, "ignor_index"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(
    tmp_path: Path, use: str, args: dict[str, Any], kind: type[LockstepError], words: str
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(kind, match=words):
        build_loss(LossConfig(use=use, args=args), tmp_path)


@pytest.mark.parametrize(
    "use", ["torch.nn:MSELoss", "torch.nn:L1Loss", "torch.nn.functional:huber_loss", "mse"]
)
def test_a_column_is_not_compared_with_a_row(use: str) -> None:
    """torch broadcasts [12, 1] and [12] to [12, 12], with nothing but a warning."""
    loss = build_loss(LossConfig(use=use), Path())
    with pytest.raises(
        TrainingError, match=r"the model returned the shape \(12, 1\), the targets have \(12,\)"
    ):
        loss(SCORES[:, :1], NUMBERS[:, 0])


@pytest.mark.parametrize(
    "use",
    ["cross_entropy", "mse", "torch.nn:CrossEntropyLoss", "torch.nn:MSELoss", "torch.nn:MultiMarginLoss"],
)
def test_what_is_no_tensor_needs_a_function_of_ones_own(use: str) -> None:
    loss = build_loss(LossConfig(use=use), Path())
    with pytest.raises(TrainingError, match="the targets are a dict with the keys file, label, not a tensor"):
        loss(SCORES, {"file": ["a"], "label": LABELS})
    with pytest.raises(TrainingError, match="the targets are strings, such as 'cat'") as caught:
        loss(SCORES, ["cat", "dog", "cat"])
    assert "its index" in caught.value.hint
    with pytest.raises(TrainingError, match="the model returned a tuple of 2, not a tensor"):
        loss((SCORES, SCORES), LABELS)
    for name in ("accuracy", "mae"):
        (metric,) = build_metrics(RunConfig(metrics=(name,)), Path()).values()
        with pytest.raises(TrainingError, match=f"{name}: the targets are a list of 3, not a tensor"):
            metric(SCORES, [1, 2, 3])


@pytest.mark.parametrize(
    ("use", "args", "target"),
    [
        ("cross_entropy", {"ignore_index": -100}, SOME_IGNORED),
        ("cross_entropy", {"ignore_index": 0}, LABELS),
        ("torch.nn:CrossEntropyLoss", {}, SOME_IGNORED),
    ],
)
def test_an_ignored_label_is_in_no_mean(use: str, args: dict[str, Any], target: torch.Tensor) -> None:
    config = RunConfig.model_validate({"loss": {"use": use, "args": args}, "metrics": ["accuracy"]})
    ignored = args.get("ignore_index", -100)
    loss = build_loss(config.loss, Path())
    expected = float(functional.cross_entropy(SCORES, target, ignore_index=ignored))
    assert _over([1, 7, 4], loss, SCORES, target) == pytest.approx(expected, rel=1e-13)
    kept = target != ignored
    hits, count = build_metrics(config, Path())["accuracy"](SCORES, target)
    assert (int(hits), int(count)) == (int((SCORES.argmax(1) == target)[kept].sum()), int(kept.sum()))


def test_probabilities_have_no_label_that_is_ignored() -> None:
    """What mixup makes of classes: a weight of the number of probabilities would divide the loss by the classes."""
    target = torch.softmax(SCORES.flip(0), 1)
    expected = functional.cross_entropy(SCORES, target, reduction="none")
    for ignored in (-100, 1):
        losses = cross_entropy(SCORES, target, ignore_index=ignored)
        assert isinstance(losses, torch.Tensor)
        assert torch.equal(losses, expected)

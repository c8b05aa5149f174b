"""Models of layers that are wrapped, shared, hooked or recomputed.

The numbers are those of a plain loop in torch over the whole set, six steps of SGD at 0.1 in fp64, from the weights
that the seed of the run gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tests.zoo.case import Case, Trains
from tests.zoo.own_data_cases import DATA, WHOLE

_TENSORS = """
import torch.utils.checkpoint
from torch.nn.utils import parametrizations, prune
def data(): return {"train": (X[:24], Y[:24]), "val": (X[24:], Y[24:])}
"""


def _layers(name: str, layers: str, loss: float) -> Case:
    code = f"def model(): return nn.Sequential({layers})"
    return Case(f"layers: {name}", DATA + _TENSORS + code, Trains({"val/loss": loss}), WHOLE)


def _net(
    name: str,
    init: str,
    forward: str,
    loss: float,
    check: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> Case:
    code = f"""
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        {init}
    def forward(self, x):
        {forward}
def model(): return Net()
"""
    return Case(f"layers: {name}", DATA + _TENSORS + code, Trains({"val/loss": loss}), WHOLE, check=check)


_TAIL = "nn.Tanh(), nn.Linear(4, 2)"
_BLOCK = "self.block, self.last = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2)"
_LEFT_OUT = {"parameters": ("NOTE", "the loss does not reach frozen.weight, frozen.bias")}

LAYER_CASES = [
    _layers("weight norm by hooks", f"nn.utils.weight_norm(nn.Linear(3, 4)), {_TAIL}", 0.6479834490938626),
    _layers("weight norm", f"parametrizations.weight_norm(nn.Linear(3, 4)), {_TAIL}", 0.6479834490938626),
    _layers("spectral norm", f"parametrizations.spectral_norm(nn.Linear(3, 4)), {_TAIL}", 0.8442025533356811),
    _layers(
        "spectral norm by hooks", f"nn.utils.spectral_norm(nn.Linear(3, 4)), {_TAIL}", 0.8434536053828593
    ),
    _layers(
        "orthogonal weights",
        "parametrizations.orthogonal(nn.Linear(3, 3)), nn.Tanh(), nn.Linear(3, 2)",
        0.6340605407720011,
    ),
    _layers(
        "pruned weights",
        f"prune.random_unstructured(nn.Linear(3, 4), 'weight', amount=0.5), {_TAIL}",
        0.6638222740209604,
    ),
    _net(
        "one module under two names",
        "self.one, self.last = nn.Linear(3, 3), nn.Linear(3, 2); self.other = self.one",
        "return self.last(torch.tanh(self.other(torch.tanh(self.one(x)))))",
        0.6569591506860598,
    ),
    _net(
        "a hook that scales gradients of modules",
        "self.one, self.last = nn.Linear(3, 4), nn.Linear(4, 2); half = lambda m, i, o: tuple("
        "g if g is None else g * 0.5 for g in i); [p.register_full_backward_hook(half) for p in (self.one, self.last)]",
        "return self.last(torch.tanh(self.one(x)))",
        0.6576654623589253,
    ),
    _net(
        "a hook that masks gradients of a parameter",
        "self.one = nn.Linear(3, 2); self.one.weight.register_hook("
        "lambda g: g * torch.tensor([[1.0, 0, 1], [0, 1, 1]], dtype=g.dtype))",
        "return self.one(x)",
        0.865251418039611,
    ),
    _net(
        "a block that is recomputed",
        _BLOCK,
        "return self.last(torch.utils.checkpoint.checkpoint(self.block, x, use_reentrant=False))",
        0.6480115238065756,
    ),
    _net(
        "a function of the parameters, for each sample",
        "self.one = nn.Linear(3, 2)",
        "named = dict(self.one.named_parameters()); return torch.func.vmap("
        "lambda row: torch.func.functional_call(self.one, named, (row,)))(x)",
        0.8081685336456678,
    ),
    _net(
        "a part without gradients",
        "self.frozen, self.last = nn.Linear(3, 4), nn.Linear(4, 2)",
        "with torch.no_grad(): h = torch.tanh(self.frozen(x))\n        return self.last(h)",
        0.6707449736787948,
        check=_LEFT_OUT,
    ),
    _net(
        "a recurrent layer",
        "self.rows, self.last = nn.LSTM(1, 4, batch_first=True, num_layers=2), nn.Linear(4, 2)",
        "return self.last(self.rows(x[..., None])[0][:, -1])",
        0.6472929537411704,
    ),
    _net(
        "a teacher that follows by writing to its parameters",
        "import copy; self.one = nn.Linear(3, 2); self.teacher = copy.deepcopy(self.one).requires_grad_(False)",
        "if self.training:\n            with torch.no_grad():\n                for p, q in zip("
        "self.teacher.parameters(), self.one.parameters()): p.lerp_(q, 0.1)\n"
        "        return self.one(x) + 0.1 * self.teacher(x)",
        0.831059220809156,
    ),
]

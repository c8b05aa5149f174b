"""Models that people have: parts that a step leaves out, masks that are no numbers, outputs that the loss leaves out.

The numbers are those of a plain loop in torch over the same batches.
"""

from __future__ import annotations

from tests.zoo.case import Case, Refused, Trains

_DATA = """
def data():
    g = torch.Generator().manual_seed(7)
    x = torch.randn(37, 3, generator=g, dtype=torch.float64)
    y = (x.sum(1) > 0).long()
    return {"train": (x[:25], y[:25]), "val": (x[25:], y[25:])}

def begun(model):
    for parameter in model.parameters():
        parameter.data = torch.linspace(-0.6, 0.5, parameter.numel()).reshape(parameter.shape)
    return model
"""
_EXPERTS = """
class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.experts = nn.ModuleList(nn.Linear(4, 2) for _ in range(3))

    def forward(self, x):
        h = torch.tanh(self.stem(x))
        out = h.new_zeros(len(x), 2)
        for number, expert in enumerate(self.experts):
            rows = ((x[:, 0] > 1.2).long() == number).nonzero()[:, 0]
            if len(rows):
                out = out.index_add(0, rows, expert(h[rows]))
        return out

def model():
    return begun(Experts())
"""
_BRANCH = """
class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.rare = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        out, rare = self.head(x), x[:, 1] > 1.0
        return torch.where(rare[:, None], out + self.rare(x), out) if rare.any() else out

def model():
    return begun(Branch())
"""
_MASK = """
class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("mask", torch.full((2, 2), float("-inf")).triu(1))
        self.register_buffer("unseen", torch.full((2,), float("inf")))
        self.register_buffer("on", torch.tensor([True, False]))

    def forward(self, x):
        return self.layer(x) @ torch.softmax(self.mask, 1)

def model():
    return begun(Masked())
"""
_AUXILIARY = """
class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head, self.extra = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)
        self.tied = nn.Linear(3, 4)
        self.tied.weight = self.stem.weight

    def forward(self, x):
        h = torch.tanh(self.stem(x) + self.tied(x))
        return {"scores": self.head(h), "extra": self.extra(h)}

def model():
    return begun(Auxiliary())

def loss(output, target):
    return F.cross_entropy(output["scores"], target, reduction="none")
"""
_DECAYED = "optimizer={use: sgd, lr: 0.2, momentum: 0.9, weight_decay: 0.01}"
_LEFT_OUT = "the loss does not reach"
_LISTED = """
class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = [nn.Linear(3, 3).double()], nn.Linear(3, 2)

    def forward(self, x):
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return self.last(x)

def model():
    return Listed()
"""

MODEL_CASES = [
    Case(
        name="models: experts of which steps and ranks use others, one of them never",
        code=_DATA + _EXPERTS,
        end=Trains({"val/loss": 0.09062878898968561}),
        settings=(_DECAYED,),
        notes=(_LEFT_OUT, "experts.2.weight in 4"),
    ),
    Case(
        name="models: a branch that depends on the batch, by micro-batches",
        code=_DATA + _BRANCH,
        end=Trains({"val/loss": 0.035553080906014216}),
        settings=(_DECAYED, "data.max_micro_batch=2"),
        notes=(_LEFT_OUT,),
    ),
    Case(
        name="models: a mask of -inf and a buffer of inf",
        code=_DATA + _MASK,
        end=Trains({"val/loss": 0.27476292785757966}),
    ),
    Case(
        name="models: an output that the loss leaves out, and tied weights",
        code=_DATA + _AUXILIARY,
        end=Trains({"val/loss": 0.20834234130821358}),
        settings=("loss={use: ./exp.py:loss}", "metrics=[]"),
        notes=("extra.weight",),
    ),
    Case(
        name="models: parts that are left out where that is an error",
        code=_DATA + _EXPERTS,
        end=Refused(1, ("train.unused=error: in step 0 the loss does not reach", "experts.2.weight")),
        settings=("train.unused=error",),
    ),
    Case(
        name="models: layers in a plain list",
        code=_DATA + _LISTED,
        end=Refused(1, ("the loss depends on hidden[0].bias, hidden[0].weight", "nn.ModuleList")),
    ),
]

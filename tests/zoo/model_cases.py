"""Models that people have: parts that a step leaves out, masks that are not numbers, outputs that the loss leaves out.

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
_DATA_FOR_ALL = _DATA.replace("25", "27")
"""With a sample for each of 3 processes in the last step: one without any makes no pass, which a model may count."""
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
_ROWS = """
class Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.common, self.rare = nn.Embedding(10, 2, sparse=True), nn.Embedding(10, 2, sparse=True)

    def forward(self, x):
        number = (x[:, 0].abs() * 4).long().clamp(max=9)
        out, rare = self.common(number), (number > 8).nonzero()[:, 0]
        return out.index_add(0, rare, self.rare(number[rare])) if len(rare) else out

def model():
    return begun(Rows())
"""
_SWITCHES = """
class Switches(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("passes", torch.tensor(0))

    def forward(self, x):
        if self.training:
            self.passes += 1
            self.stem.requires_grad_(bool(self.passes > 3))
        return self.head(torch.tanh(self.stem(x)))

def model():
    return begun(Switches())
"""
_FORCES = """
class Forces(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        with torch.enable_grad():
            place = x.detach().requires_grad_(True)
            energy = torch.tanh(self.stem(place)).sum()
            force, = torch.autograd.grad(energy, place, create_graph=self.training)
        return self.head(torch.tanh(self.stem(x)) + force.sum(1, keepdim=True))

def model():
    return begun(Forces())
"""
_CENTRED = """
class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.centre = nn.Parameter(torch.zeros(3), requires_grad=False)

    def forward(self, x):
        if self.training:
            self.centre.data = 0.9 * self.centre.data + 0.1 * WHAT
        return self.layer(x - self.centre)

def model():
    return begun(Centred())
"""
_RESIZED = """
class Resized(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("table", torch.zeros(0))
        self.register_buffer("made", None)
        self.register_buffer("count", torch.zeros(2, dtype=torch.long))

    def forward(self, x):
        need = 1 + int(x.abs().max() * 3)
        if len(self.table) < need:
            self.table = torch.arange(need, dtype=x.dtype) * 0.1
        if self.made is None:
            self.made = torch.ones(2, dtype=x.dtype)
        if self.training:
            self.count = self.count.double() + 1
        return self.layer(x) * (1 + self.table[1]) * self.made

def model():
    return begun(Resized())
"""
_COMPLEX = """
class Waves(nn.Module):
    def __init__(self):
        super().__init__()
        self.waves = nn.Parameter(torch.zeros(3, 2, dtype=torch.cfloat))

    def forward(self, x):
        return (x.to(self.waves.dtype) @ self.waves).abs()

def model():
    return begun(Waves())
"""
_BANK = """
class Bank(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("bank", torch.zeros(0, 3))

    def forward(self, x):
        if self.training:
            self.bank = torch.cat([self.bank, x.detach()])[-50:]
        return self.layer(x) + self.bank.mean()

def model():
    return begun(Bank())
"""
_LIMITED = """
class Limited(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows = nn.Embedding(10, 2, max_norm=5.0)

    def forward(self, x):
        return self.rows((x[:, 0].abs() * 4).long().clamp(max=9))

def model():
    return begun(Limited())
"""
_ON_SEVERAL = ("train.logical_ranks=3",)

MODEL_CASES = [
    Case(
        name="models: experts of which steps and ranks use others, one of them never",
        code=_DATA + _EXPERTS,
        end=Trains({"val/loss": 0.09062878898968561}),
        settings=(_DECAYED,),
        notes=(_LEFT_OUT, "experts.2.weight in 4"),
        check={"parameters": ("NOTE", "the loss does not reach experts.2.weight, experts.2.bias")},
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
        check={"parameters": ("NOTE", "the loss does not reach extra.weight, extra.bias")},
    ),
    Case(
        name="models: parts that are left out where that is an error",
        code=_DATA + _EXPERTS,
        end=Refused(1, ("train.unused=error: in step 1 the loss does not reach", "experts.2.weight")),
        settings=("train.unused=error",),
    ),
    Case(
        name="models: layers in a plain list",
        code=_DATA + _LISTED,
        end=Refused(1, ("the loss depends on hidden[0].bias, hidden[0].weight", "nn.ModuleList")),
    ),
    Case(
        name="models: sparse embeddings, one of them used by few samples",
        code=_DATA + _ROWS,
        end=Trains({"val/loss": 0.6483381386147126}),
        settings=(_DECAYED, "optimizer.clip_norm=0.5", "data.max_micro_batch=2"),
        notes=("sparse=True of common, rare",),
        check={"parameters": ("NOTE", "the loss does not reach rare.weight")},
    ),
    Case(
        name="models: a part that the model itself trains only later",
        code=_DATA_FOR_ALL + _SWITCHES,
        end=Trains({"val/loss": 0.39696737626653766}),
        check={"parameters": ("NOTE", "the loss does not reach stem.weight, stem.bias")},
    ),
    Case(
        name="models: a gradient within the forward pass",
        code=_DATA + _FORCES,
        end=Trains({"val/loss": 0.07165038007263864}),
    ),
    Case(
        name="models: a parameter that each pass writes to, whatever its samples are",
        code=_DATA + _CENTRED.replace("WHAT", "self.layer.weight.data.mean(0)"),
        end=Trains({"val/loss": 0.1402928790397484}),
    ),
    Case(
        name="models: buffers that get another size or type, or are made in a pass",
        code=_DATA_FOR_ALL + _RESIZED,
        end=Trains({"val/loss": 0.14070548125773258}),
    ),
    Case(
        name="models: complex parameters",
        code=_DATA + _COMPLEX,
        end=Trains({"val/loss": 0.8364033712893345}),
    ),
    Case(
        name="models: a parameter that learns from the samples of a pass",
        code=_DATA + _CENTRED.replace("WHAT", "x.detach().mean(0)"),
        end=Refused(1, ("a forward pass writes to centre (by what the samples are)", "register_buffer")),
        settings=_ON_SEVERAL,
    ),
    Case(
        name="models: a bank that grows by the samples of a pass",
        code=_DATA + _BANK,
        end=Refused(1, ("the buffer bank is made, or grows, by the samples",)),
        settings=_ON_SEVERAL,
    ),
    Case(
        name="models: an embedding that scales the rows that are looked up",
        code=_DATA + _LIMITED,
        end=Refused(1, ("a forward pass writes to rows.weight (max_norm",)),
        settings=_ON_SEVERAL,
    ),
]

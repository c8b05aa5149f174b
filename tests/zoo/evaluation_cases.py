"""Models that are hard to evaluate: they draw, write, mix or cache in evaluation, or return less than in training."""

from __future__ import annotations

from tests.zoo.case import Case, Trains

_DATA = """
def data(n=45, m=37):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n + m, 6, generator=g, dtype=torch.float64)
    y = (x.sum(1) > 0).long()
    return {"train": (x[:n], y[:n]), "val": (x[n:], y[n:])}
"""
_BODY = (
    _DATA
    + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
    def forward(self, x):
        h = self.first(x)
        return self.last(h if self.training else self.change(h))
"""
)
_MODEL = "\n\ndef model():\n    return Net()\n"
_CUT_ALIKE = ("train.logical_ranks=3",)
"""For models whose training mixes or draws: it is the same on 1, 2 and 3 processes."""
_NOT_COMPARED = ("NOTE", "the model draws in evaluation mode, too, and each process draws by itself")


def _drawing(generator: str) -> dict[str, tuple[str, str]]:
    """What ``launch check`` says of a model that draws in evaluation."""
    return {
        "model": ("NOTE", f"in evaluation Net (the whole model) draws from {generator}"),
        "2 against 1": _NOT_COMPARED,
    }


def _changed(change: str) -> str:
    """A model that does something to its activations in evaluation only."""
    return f"{_BODY}    def change(self, h):\n        {change}\n{_MODEL}"


EVALUATION_CASES = [
    Case(
        "dropout left on in evaluation",
        _changed("return F.dropout(h, 0.5, training=True)"),
        Trains({"val/loss": 0.645863620228802}),
        notes=("note: in evaluation the model draws from torch's generator",),
        check=_drawing("torch's generator"),
    ),
    Case(
        "noise from NumPy in evaluation",
        _changed("return h + torch.from_numpy(np.random.randn(*h.shape))"),
        Trains({"val/loss": 0.7202523352481937}),
        notes=("note: in evaluation the model draws from NumPy's generator",),
        check=_drawing("NumPy's generator"),
    ),
    Case(
        "one draw for a batch in evaluation",
        _changed("return h * torch.rand(8, dtype=h.dtype)"),
        Trains({"val/loss": 0.6812169637153257}),
        check=_drawing("torch's generator"),
    ),
    Case(
        "normalised by the batch in evaluation",
        _changed("return h - h.mean(0)"),
        Trains({"val/loss": 0.621234431421619}),
        notes=("note: in evaluation a sample's result depends on the others of its batch",),
        check={
            "model": ("FAIL", "the output of a sample depends on the batch that it is in, first in Net"),
        },
    ),
    Case(
        "a variational autoencoder",
        _DATA
        + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 4), nn.Linear(2, 6)
    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return self.decoder(mean + torch.randn_like(mean) * (log_variance / 2).exp()), mean, log_variance, x

def loss(output, target):
    made, mean, log_variance, x = output
    return (made - x).square().sum(1) - 0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
"""
        + _MODEL,
        Trains({"val/loss": 6.488602410739469}),
        settings=("loss.use=./exp.py:loss", "metrics=[]", *_CUT_ALIKE),
        notes=("note: in evaluation the model draws from torch's generator",),
        check={"model": _drawing("torch's generator")["model"]},
    ),
    Case(
        "a buffer written in evaluation",
        _DATA
        + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)
        self.register_buffer("mean", torch.zeros(6))
    def forward(self, x):
        if not self.training:
            self.mean.data.mul_(0.9).add_(0.1 * x.mean(0))
        return self.layer(x - self.mean)
"""
        + _MODEL,
        Trains({"val/loss": 0.5377424061473949}),
        notes=("note: in evaluation the model writes to mean",),
        check={
            "model": (
                "NOTE",
                "in evaluation, too, it writes to mean: each batch finds it as training left it",
            )
        },
    ),
    Case(
        "auxiliary outputs in training only",
        _DATA
        + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.other = nn.Linear(6, 8), nn.Linear(8, 2), nn.Linear(8, 2)
    def forward(self, x):
        h = self.body(x).tanh()
        return {"out": self.head(h), "aux": self.other(h)} if self.training else self.head(h)

def loss(output, target):
    if isinstance(output, dict):
        return loss(output["out"], target) + 0.4 * loss(output["aux"], target)
    return F.cross_entropy(output, target, reduction="none")
"""
        + _MODEL,
        Trains({"val/loss": 0.6536970525109472, "val/accuracy": 0.6486486486486487}),
        settings=("loss.use=./exp.py:loss", "metrics=[accuracy]"),
    ),
    Case(
        "a table for the longest input so far",
        _DATA.replace('"train": (x[:n]', '"train": (x[:n, :4]')
        + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.value, self.place, self.last = nn.Linear(1, 8), nn.Linear(1, 8), nn.Linear(8, 2)
        self.table = torch.empty(0)
    def forward(self, x):
        if x.shape[1] > len(self.table):
            self.table = torch.arange(x.shape[1], dtype=x.dtype)[:, None].sin()
        return self.last((self.value(x[..., None]) + self.place(self.table[: x.shape[1]])).mean(1))
"""
        + _MODEL,
        Trains({"val/loss": 0.6435922076412112}),
    ),
    Case(
        "a frozen batch norm and a tail of one sample",
        _DATA
        + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self
    def forward(self, x):
        return self.last(self.norm(self.first(x)))
"""
        + _MODEL,
        Trains({"val/loss": 0.6527947072490395}),
        settings=("data.batch_size=11",),
    ),
    Case(
        "a batch norm that train() takes out of evaluation mode",
        _DATA
        + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
        self.norm.eval()
    def forward(self, x):
        return self.last(self.norm(self.first(x)))
"""
        + _MODEL,
        Trains({"val/loss": 0.6740244415740028}),
        settings=(*_CUT_ALIKE, "data.batch_size=15"),
        check={
            "mode": (
                "NOTE",
                "BatchNorm1d (norm) was put into evaluation mode when it was built, but train()",
            ),
        },
    ),
    Case(
        "validation samples with noise",
        _DATA.replace("return {", "train = {").replace(
            '"val": (x[n:], y[n:])}', '"val": Noisy(x[n:], y[n:])}'
        )
        + """    return train

class Noisy(torch.utils.data.Dataset):
    def __init__(self, x, y): self.x, self.y = x, y
    def __len__(self): return len(self.x)
    def __getitem__(self, row): return self.x[row] + torch.from_numpy(np.random.randn(6)), self.y[row]

def model(): return nn.Linear(6, 2)
""",
        Trains({"val/loss": 0.6044998094408097}),
    ),
]

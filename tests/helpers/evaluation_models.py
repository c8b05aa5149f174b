"""Models whose evaluation is hard to make a function of the weights; appended to ``USER_CODE``."""

from __future__ import annotations

EVALUATION_CODE = '''
import random
import numpy as np
from torch.nn import functional as F

def per_sample(output, target):
    return F.cross_entropy(output, target, reduction="none")

def misfit(output, target):
    return output.view(7, -1).sum(), len(target)

def correct(output, target):
    return (output.argmax(1) == target).sum(), len(target)

class Vae(nn.Module):
    """Draws in evaluation as in training."""
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(7, 4), nn.Linear(2, 7)
    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return self.decoder(mean + torch.randn_like(mean) * (log_variance / 2).exp()), mean, log_variance, x

def elbo(output, target):
    made, mean, log_variance, x = output
    return (made - x).square().sum(1) - 0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)

class Drawing(nn.Module):
    """Multiplies by what ``source`` draws, whatever the mode."""
    def __init__(self, source):
        super().__init__()
        self.first, self.last, self.source = nn.Linear(7, 8), nn.Linear(8, 2), source
        self.torch, self.numpy = torch.Generator().manual_seed(3), np.random.default_rng(3)
        self.legacy, self.python = np.random.RandomState(3), random.Random(3)
    def forward(self, x):
        h = self.first(x)
        return self.last(h * getattr(self, self.source.replace(" ", "_"))(h))
    def dropout_left_on(self, h): return F.dropout(torch.ones_like(h), 0.5, training=True)
    def one_draw_for_all(self, h): return torch.rand(8, dtype=h.dtype)
    def permutation_of_a_batch(self, h): return torch.randperm(len(h))[:, None].to(h.dtype)
    def numpy_global(self, h): return torch.from_numpy(np.random.rand(len(h), 8))
    def python_global(self, h): return random.random()
    def own_torch(self, h): return torch.rand(h.shape, generator=self.torch, dtype=h.dtype)
    def own_numpy(self, h): return torch.from_numpy(self.numpy.random((len(h), 8)))
    def own_legacy(self, h): return torch.from_numpy(self.legacy.rand(len(h), 8))
    def own_python(self, h): return self.python.random()
    def rare(self, h): return torch.rand_like(h) if bool((h.abs() > 2.0).any()) else 1.0

class Mixing(nn.Module):
    """Normalises by the batch in evaluation, too."""
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(7, 8), nn.BatchNorm1d(8, track_running_stats=False)
        self.last = nn.Linear(8, 2)
    def forward(self, x): return self.last(self.norm(self.first(x)))

class Writing(nn.Module):
    """Writes to its buffers in evaluation, too, in a way that leaves no version behind."""
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(7, 8), nn.Linear(8, 2)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
    def forward(self, x):
        h = self.first(x)
        self.mean.data.mul_(0.9).add_(0.1 * h.detach().mean(0))
        self.calls += 1
        return self.last(h - self.mean + 0.01 * self.calls)

class Codebook(nn.Module):
    """A buffer that learns on each rank by itself, and is no norm."""
    def __init__(self, persistent=True):
        super().__init__()
        self.encoder, self.head = nn.Linear(7, 3), nn.Linear(3, 2)
        codes = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
        self.register_buffer("codes", codes, persistent=persistent)
    def forward(self, x):
        z = self.encoder(x)
        nearest = torch.cdist(z.detach(), self.codes).argmin(1)
        if self.training:
            hits = F.one_hot(nearest, len(self.codes)).to(z.dtype)
            means = hits.t() @ z.detach() / hits.sum(0).clamp(min=1)[:, None]
            self.codes.data.lerp_(torch.where(hits.sum(0)[:, None] > 0, means, self.codes), 0.1)
        found = self.codes[nearest]
        return self.head(z + (found - z).detach())

class OwnNorm(nn.Module):
    """A batch norm that is not torch's."""
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(7, 8), nn.Linear(8, 2)
        self.register_buffer("running_mean", torch.zeros(8))
        self.register_buffer("running_var", torch.ones(8))
    def forward(self, x):
        h = self.first(x)
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = h.mean(0), h.var(0, unbiased=False)
            self.running_mean.lerp_(mean.detach(), 0.1)
            self.running_var.lerp_(var.detach(), 0.1)
        return self.last((h - mean) / (var + 1e-5).sqrt())

class Normed(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.first, self.last = nn.Linear(7, 8), nn.Linear(8, 2)
        self.norm = getattr(nn, norm)(*([] if norm.startswith("Lazy") else [8]))
    def forward(self, x): return self.last(self.norm(self.first(x)))

class Frozen(nn.Module):
    """A batch norm that stays in evaluation mode, because ``how`` keeps it there, or does not."""
    def __init__(self, how):
        super().__init__()
        self.first, self.norm, self.last, self.how = nn.Linear(7, 8), nn.BatchNorm1d(8), nn.Linear(8, 2), how
        self.norm.eval()
    def train(self, mode=True):
        super().train(mode)
        if self.how == "train":
            self.norm.eval()
        return self
    def forward(self, x):
        if self.how == "forward":
            self.norm.eval()
        return self.last(self.norm(self.first(x)))

class Auxiliary(nn.Module):
    """Returns more in training than in evaluation."""
    def __init__(self):
        super().__init__()
        self.body, self.head, self.other = nn.Linear(7, 8), nn.Linear(8, 2), nn.Linear(8, 2)
    def forward(self, x):
        h = self.body(x).tanh()
        return {"out": self.head(h), "aux": self.other(h)} if self.training else self.head(h)

def auxiliary_loss(output, target):
    if isinstance(output, dict):
        return per_sample(output["out"], target) + 0.4 * per_sample(output["aux"], target)
    return per_sample(output, target)

class Table(nn.Module):
    """Keeps a table for the longest input that it has seen."""
    def __init__(self, buffer):
        super().__init__()
        self.first, self.place, self.last = nn.Linear(1, 8), nn.Linear(1, 8), nn.Linear(8, 2)
        if buffer:
            self.register_buffer("table", torch.empty(0), persistent=False)
        else:
            self.table = torch.empty(0)
    def forward(self, x):
        if x.shape[1] > len(self.table):
            self.table = torch.arange(x.shape[1], dtype=x.dtype)[:, None].sin()
        return self.last((self.first(x[..., None]) + self.place(self.table[: x.shape[1]])).mean(1))

def longer_validation(n=203, m=101):
    splits = data(n, m)
    return {"train": (splits["train"][0][:, :4], splits["train"][1]), "val": splits["val"]}

class Noisy(torch.utils.data.Dataset):
    """Draws when a sample is read, in the validation set, too."""
    def __init__(self, pair, source):
        self.x, self.y, self.source = *pair, source
    def __len__(self): return len(self.x)
    def __getitem__(self, row):
        draws = {"torch": torch.randn, "numpy": lambda n: torch.from_numpy(np.random.randn(n)),
                 "python": lambda n: torch.tensor([random.gauss(0, 1) for _ in range(n)])}
        return self.x[row] + draws[self.source](7), self.y[row]

def noisy(source, n=103, m=101):
    splits = data(n, m)
    return {"train": splits["train"], "val": Noisy(splits["val"], source)}
'''

EVALUATION_CONFIG = """
data: {use: "./own.py:data", args: {n: 203, m: 101}, batch_size: 29}
loss: {use: "./own.py:per_sample"}
metrics: ["./own.py:correct"]
optimizer: {use: sgd, lr: 0.1, momentum: 0.9}
train: {epochs: 2, precision: fp64}
tracking: []
"""

_SOURCES = (
    "dropout left on",
    "one draw for all",
    "permutation of a batch",
    "numpy global",
    "python global",
    "own torch",
    "own numpy",
    "own legacy",
    "own python",
    "rare",
)
EVALUATION_CASES: dict[str, list[str]] = {
    "a vae": ["model.use=./own.py:Vae", "loss.use=./own.py:elbo", "metrics=[]"],
    **{name: ["model.use=./own.py:Drawing", f"model.args.source={name}"] for name in _SOURCES},
    "mixing": ["model.use=./own.py:Mixing"],
    "writing": ["model.use=./own.py:Writing"],
    "codebook": ["model.use=./own.py:Codebook"],
    "a codebook and an average": ["model.use=./own.py:Codebook", "train.ema={decay: 0.9}"],
    "own norm": ["model.use=./own.py:OwnNorm"],
    "batch norm": ["model.use=./own.py:Normed", "model.args.norm=BatchNorm1d"],
    "lazy batch norm": ["model.use=./own.py:Normed", "model.args.norm=LazyBatchNorm1d"],
    "frozen batch norm": ["model.use=./own.py:Frozen", "model.args.how=train", "data.batch_size=101"],
    "auxiliary outputs": ["model.use=./own.py:Auxiliary", "loss.use=./own.py:auxiliary_loss"],
    "a table": ["model.use=./own.py:Table", "model.args.buffer=false", "data.use=./own.py:longer_validation"],
    "a table in a buffer": [
        "model.use=./own.py:Table",
        "model.args.buffer=true",
        "data.use=./own.py:longer_validation",
    ],
    **{
        f"validation samples with noise of {source}": [
            "model.use=./own.py:model",
            "data.use=./own.py:noisy",
            f"data.args.source={source}",
            f"data.workers={workers}",
        ]
        for source, workers in (("torch", 0), ("numpy", 2), ("python", 2))
    },
}
"""Settings by name; all of them train, and what their log says of the last epoch is what an evaluation says."""

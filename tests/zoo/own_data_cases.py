"""A user's own data: targets, types, losses and samples of the kinds that people have.

The numbers are those of a plain loop in torch over the whole set, six steps of SGD at 0.1 in fp64.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tests.zoo.case import Case, Refused, Trains

WHOLE = ("data.batch_size=24", "train.epochs=6")
DATA = """
g = torch.Generator().manual_seed(7)
X = torch.randint(0, 250, (36, 3), generator=g).double() / 50
Y = (X.sum(1) > 7.5).long()
TRAIN, VAL = range(24), range(24, 36)

class Rows(torch.utils.data.Dataset):
    def __init__(self, rows, sample):
        self.rows, self.sample = rows, sample
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, at):
        return self.sample(self.rows[at])

def rows(sample):
    return {"train": Rows(TRAIN, sample), "val": Rows(VAL, sample)}

def model():
    m = nn.Linear(3, 2)
    nn.init.constant_(m.weight, 0.1)
    nn.init.constant_(m.bias, 0.0)
    m.weight.data[0, 0] = -0.2
    return m
"""
PLAIN, IGNORED, WEIGHTED, BYTES, IDS, PADDED, BITS = (
    Trains({"val/loss": loss, "val/count": 12})
    for loss in (
        0.7730493898974534,  # cross-entropy
        0.7482052298603592,  # of those whose label is not -100
        0.6159367596466214,  # and with the weights 1 and 3 of the classes
        0.6960759318797799,  # of bytes, divided by 1,000 in the model
        0.7686443972997182,  # of bytes that are token ids
        0.7445990093993453,  # of ragged samples
        0.7393132848112641,  # binary cross-entropy of two bits
    )
)
IGNORING = """
IGNORED = torch.where(torch.arange(36) % 5 == 2, -100, Y)
def data(): return rows(lambda at: (X[at], int(IGNORED[at])))
"""
AS_BYTES = "B = (X * 50).round().to(torch.uint8)\n"


_NESTED = {"labels": ("NOTE", "targets are not single tensors: their range was not looked at")}


def _trains(
    name: str,
    code: str,
    end: Trains,
    *settings: str,
    check: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> Case:
    return Case(f"own data: {name}", DATA + code, end, (*WHOLE, *settings), check=check)


def _refused(name: str, code: str, *words: str, settings: tuple[str, ...] = (), status: int = 1) -> Case:
    return Case(f"own data: {name}", DATA + code, Refused(status, words), settings)


OWN_DATA_CASES = [
    _trains(
        "a target with the name of its file",
        """
def data(): return rows(lambda at: (X[at], {"file": f"picture-{at}.png", "label": int(Y[at])}))
def loss(output, target): return F.cross_entropy(output, target["label"], reduction="none")
""",
        PLAIN,
        "loss={use: './exp.py:loss'}",
        check=_NESTED,
    ),
    _trains(
        "a target with a table of the whole batch",
        """
def data(): return rows(lambda at: ({"x": X[at]}, [torch.ones(2, 5), int(Y[at])]))
def loss(output, target): return F.cross_entropy(output, target[1], reduction="none")
def model(linear=model()):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear
        def forward(self, x): return self.linear(x["x"])
    return Model()
""",
        PLAIN,
        "loss={use: './exp.py:loss'}",
        check=_NESTED,
    ),
    _trains("int32 labels", "def data(): return rows(lambda at: (X[at], np.int32(Y[at])))", PLAIN),
    _trains(
        "int32 labels and a loss of one's own",
        """
def data(): return rows(lambda at: (X[at], Y[at].int()))
def loss(output, target): return F.cross_entropy(output, target, reduction="none")
""",
        PLAIN,
        "loss={use: './exp.py:loss'}",
    ),
    _trains(
        "a pair of arrays",
        """
def data():
    x, y = X.numpy()[::-1], Y.numpy().astype(np.uint8)[::-1]
    return {"train": (x[:11:-1], y[:11:-1]), "val": (x[11::-1], y[11::-1])}
""",
        PLAIN,
    ),
    _trains(
        "a class of torch's as the loss",
        "def data(): return rows(lambda at: (X[at], int(Y[at])))",
        PLAIN,
        "loss={use: 'torch.nn:CrossEntropyLoss'}",
    ),
    _trains(
        "ignored labels",
        IGNORING,
        IGNORED,
        "loss={use: 'torch.nn.functional:cross_entropy', args: {reduction: none, ignore_index: -100}}",
    ),
    _trains(
        "ignored labels and the built-in loss",
        IGNORING,
        IGNORED,
        "loss={use: cross_entropy, args: {ignore_index: -100}}",
    ),
    _trains(
        "ignored labels and weights of the classes",
        IGNORING,
        WEIGHTED,
        "loss={use: 'torch.nn:CrossEntropyLoss', args: {weight: [1, 3]}}",
    ),
    _trains(
        "whole numbers for binary cross-entropy",
        "def data(): return rows(lambda at: (X[at], torch.stack([Y[at], 1 - Y[at]]).byte()))",
        BITS,
        "loss={use: 'torch.nn:BCEWithLogitsLoss'}",
    ),
    _trains(
        "bytes",
        AS_BYTES
        + """
def data(): return rows(lambda at: (B[at], int(Y[at])))
class Scaled(nn.Linear):
    def forward(self, x):
        assert x.dtype == torch.uint8
        return super().forward(x.double() / 1000)
def model(made=model()):
    scaled = Scaled(3, 2)
    scaled.load_state_dict(made.state_dict())
    return scaled
""",
        BYTES,
    ),
    _trains(
        "bytes that are token ids",
        AS_BYTES
        + """
def data(): return {"train": (B[:24], Y[:24]), "val": (B[24:], Y[24:])}
class Embed(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(250, 2)
        nn.init.constant_(self.table.weight, 0.0)
        self.table.weight.data[:, 1] = torch.arange(250.0) / 250
    def forward(self, x): return self.table(x.long()).mean(1)
def model(): return Embed()
""",
        IDS,
    ),
    _trains(
        "ragged samples and a collate function",
        """
def data(): return rows(lambda at: (X[at, : 1 + at % 3], int(Y[at])))
def pad(samples):
    xs, ys = zip(*samples)
    return nn.utils.rnn.pad_sequence(list(xs), batch_first=True), torch.tensor(ys)
class Sum(nn.Linear):
    def forward(self, x): return super().forward(x.sum(1, keepdim=True))
def model():
    m = Sum(1, 2)
    nn.init.constant_(m.weight, 0.1)
    nn.init.constant_(m.bias, 0.0)
    m.weight.data[0, 0] = -0.2
    return m
""",
        PADDED,
        "data.collate=./exp.py:pad",
    ),
    _trains(
        "targets that are not numbers, which the loss leaves out",
        """
def data():
    y = X[:, :2].clone()
    y[::3, 1] = float("nan")
    return {"train": (X[:24], y[:24]), "val": (X[24:], y[24:])}
def loss(output, target):
    there = ~target.isnan()
    return ((output - target.nan_to_num()) ** 2)[there].sum(), there.sum()
""",
        Trains({"val/loss": 5031.707205357666, "val/count": 12}),
        "loss={use: './exp.py:loss'}",
        "metrics=[]",
        check={"labels": ("NOTE", "some targets are not numbers: the loss has to leave them out")},
    ),
    _trains(
        "inputs that the model writes to",
        """
def data(): return {"train": (X[:24], Y[:24]), "val": (X[24:], Y[24:])}
class InPlace(nn.Linear):
    def forward(self, x):
        x -= 2
        return super().forward(x.mul_(0.5))
def model(made=model()):
    changed = InPlace(3, 2)
    changed.load_state_dict(made.state_dict())
    return changed
""",
        Trains({"val/loss": 0.6537550307186044, "val/count": 12}),
    ),
    _refused(
        "one-hot codes",
        "def data(): return rows(lambda at: (X[at], F.one_hot(Y[at], 2)))",
        "cross_entropy: the targets are int64 of shape [2, 2]",
        "of one-hot codes target.argmax()",
    ),
    _refused(
        "labels in lists of one",
        "def data(): return rows(lambda at: (X[at], Y[at][None]))",
        "the targets are int64 of shape [2, 1], and class indices for scores of [2, 2] have the shape [2]",
    ),
    _refused(
        "labels that are fractions",
        "def data(): return rows(lambda at: (X[at], float(Y[at])))",
        "the targets are float64 of shape [2], which are no class indices",
        "of a quantity, the loss is mse",
    ),
    _refused(
        "labels of -1 and 1",
        "def data(): return rows(lambda at: (X[at], int(Y[at]) * 2 - 1))",
        "has the label -1; with 2 classes a label is 0 to 1",
        status=6,
    ),
    _refused(
        "an output that is cut off",
        """
def data(): return {"train": (X[:24], Y[:24])}
class Cut(nn.Linear):
    def forward(self, x): return super().forward(x).detach()
def model(): return Cut(3, 2)
""",
        "the loss depends on no parameter",
        "detach()",
    ),
    _refused(
        "a sample that is None",
        "def data(): return {'train': Rows(range(36), lambda at: None if at == 33 else (X[at], int(Y[at])))}",
        "data sample 33 is None (",
        "exp.py:",
        "return (input, target) from __getitem__",
    ),
    _refused(
        "a target that is None",
        "def data(): return rows(lambda at: (X[at], None if at == 3 else int(Y[at])))",
        "target of data sample 3 is ",
        "exp.py:",
    ),
    _refused(
        "a picture",
        "from PIL import Image\ndef data(): return rows(lambda at: (Image.new('L', (3, 2)), 1))",
        "input of data sample",
        "of type PIL.Image.Image",
        "pil_to_tensor",
    ),
    _refused(
        "ragged samples",
        "def data(): return rows(lambda at: (torch.ones(4 if at == 7 else 2), 1))",
        "input of data sample 7 has shape [4], sample 0 has [2] (",
        "pad them to one shape, or give a collate function",
    ),
    _refused(
        "numbers that are sometimes whole",
        "def data(): return rows(lambda at: (X[at], at if at % 7 else at / 2))",
        "target of data sample",
        "the int",
        "the float",
    ),
    _refused(
        "bytes for a model that takes none",
        AS_BYTES + "def data(): return rows(lambda at: (B[at], int(Y[at])))",
        "the first batch is uint8 of shape (2, 3)",
        "data.scale_uint8=true",
    ),
    _refused(
        "a column that would be compared with a row",
        "def data(): return {'train': (X[:24], Y[:24])}\ndef model(): return nn.Linear(3, 1)",
        "the model returned the shape (2, 1), the targets have (2,)",
        settings=("loss={use: 'torch.nn:MSELoss'}",),
    ),
    _refused(
        "a sum for a loss",
        "def data(): return {'train': (X[:24], Y[:24])}",
        "loss.args.reduction = sum",
        settings=("loss={use: 'torch.nn:CrossEntropyLoss', args: {reduction: sum}}",),
        status=2,
    ),
    _refused(
        "a stream",
        """
class Stream(torch.utils.data.IterableDataset):
    def __len__(self): return 24
    def __iter__(self): return iter([(X[0], 1)] * 24)
def data(): return {"train": Stream()}
""",
        "returned an IterableDataset for 'train'",
    ),
    _refused(
        "arrays of objects",
        "def data(): return {'train': (np.array([[1], [2, 3]], dtype=object), np.zeros(2))}",
        "returned an array of object for 'train'",
    ),
    _refused(
        "a frame of pandas",
        "import pandas\ndef data(): return {'train': pandas.DataFrame({'a': [1, 2], 'y': [0, 1]})}",
        "returned DataFrame for 'train', which is read by the names of its columns",
        "data.use=csv",
    ),
    _refused(
        "a dict of columns",
        "def data(): return {'train': {'x': X, 'y': Y}}",
        "returned dict for 'train', which is not read by the numbers of samples",
    ),
    _refused(
        "samples that share one tensor",
        """
buffer = torch.zeros(3, dtype=torch.float64)
def data(): return rows(lambda at: (buffer.copy_(X[at]), int(Y[at])))
""",
        "sample 0 became another one when sample 23 was read",
        "exp.py:",
        "return a tensor of its own for each sample",
    ),
    _refused(
        "samples that share one array",
        """
buffer = np.zeros(3)
def sample(at):
    buffer[:] = X[at].numpy()
    return {"x": buffer, "y": [int(Y[at])]}, int(Y[at])
def data(): return rows(sample)
""",
        "sample 0 became another one when sample 23 was read",
    ),
    _refused(
        "a sample that is scaled in place",
        """
def data(): return rows(lambda at: (X[at].div_(2), int(Y[at])))
""",
        "sample 0 became another one when it was read again",
    ),
]

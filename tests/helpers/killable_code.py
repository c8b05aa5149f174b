"""What is added to a user's code where ranks are killed, and models that are hard to resume."""

from __future__ import annotations

KILLABLE_CODE = '''
import os
import signal

calls = 0

def killed(output, target):
    """Cross-entropy; the KILL_AT-th call of a rank kills every rank, or with KILL_RANK that rank alone."""
    global calls
    calls += 1
    if calls == int(os.environ.get("KILL_AT", "0")):
        rank = os.environ.get("KILL_RANK")
        if rank is None:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        elif rank == os.environ.get("RANK", "0"):
            os.kill(os.getpid(), signal.SIGKILL)
    return nn.functional.cross_entropy(output, target, reduction="none")

def dropping(width=7):
    return nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))

def normed(width=7):
    return nn.Sequential(nn.Linear(width, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))

class Odd(nn.Module):
    """A weight that is not contiguous and has two names, a buffer of each rank's own, and counts that differ."""
    def __init__(self, width):
        super().__init__()
        self.enter, self.leave = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.enter.weight = self.leave.weight = nn.Parameter(torch.randn(width, width).t())
        self.norm, self.head = nn.BatchNorm1d(width, momentum=None), nn.Linear(width, 2)
        self.register_buffer("centre", torch.zeros(width))
    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.centre.lerp_(x.mean(0), 0.1)
        return self.head(torch.tanh(self.leave(self.norm(self.enter(x - self.centre)))))

def odd(width=7):
    return Odd(width)

class Noisy(torch.utils.data.Dataset):
    def __init__(self, pair):
        self.x, self.y = pair
    def __len__(self):
        return len(self.x)
    def __getitem__(self, index):
        return self.x[index] + 0.1 * torch.randn(self.x.shape[1], dtype=self.x.dtype), self.y[index]

def dataset(n=307, m=101):
    splits = data(n, m)
    return {"train": Noisy(splits["train"]), "val": splits["val"]}

def pictures():
    splits = data(n=307, m=101, width=36)
    return {name: (x.view(-1, 1, 6, 6), y) for name, (x, y) in splits.items()}

def seeing():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
'''

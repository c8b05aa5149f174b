"""Numbers that are none, where a model or a metric has them on purpose or by accident."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.launch import Launch, outcome_of, run_folder
from tests.helpers.run_records import check_equal_training

CODE = """
class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(7, 2)
        self.register_buffer("mask", torch.full((2, 2), float("-inf")).triu(1))
        self.prior = nn.Parameter(torch.tensor([0.0, float("-inf")]))
        self.frozen = nn.Parameter(torch.full((2,), float("inf")), requires_grad=False)
    def forward(self, x):
        scores = self.layer(x)
        return scores @ torch.softmax(self.mask, 1) + torch.exp(self.prior)

def absent(output, target):
    return output.sum() * 0, 0
"""
SETTINGS = ("data.args={n: 61, m: 13}", "metrics=[./own.py:absent]", "optimizer={use: sgd, lr: 0.1}")


def _imported(run: str, log: str) -> list[str]:
    """The modules that a process has imported, as Python tells."""
    lines = (run_folder(run) / "attempt-1" / log).read_text().splitlines()
    return [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")]


def test_a_mask_of_minus_infinity_trains_and_a_metric_without_a_number_ends_by_patience(
    launch: Launch, own: Path
) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + CODE)
    monitor = "{monitor: val/absent, mode: max, patience: 2}"
    asked = (
        "own.yaml",
        "model.use=./own.py:Masked",
        *SETTINGS,
        "train.epochs=9",
        f"train.early_stop={monitor}",
    )
    timed = {"PYTHONPROFILEIMPORTTIME": "1"}
    results = [
        launch("train", *asked, "--cpu", str(world), "--name", f"odd-{world}", "--json", cwd=own, env=timed)
        for world in (1, 2)
    ]
    for result in results:
        assert result.status == 0, result.err
        assert "note: val/absent is not a number after epoch 1" in result.err
        assert result.err.count("is not a number after epoch") == 1
        assert "ended early: val/absent has not been a number for 2 epochs" in result.err
    assert outcome_of("odd-1")["epochs"] == 2
    of_agent, of_rank = (_imported("odd-2", log) for log in ("agent.log", "rank-1.log"))
    assert "lockstep.training.loop.evaluation" in of_agent
    assert [name for name in of_rank if name.startswith(("lockstep", "torch."))] == []  # once for all ranks
    one, many = (result.document for result in results)
    assert one["metrics"].pop("val/absent") is many["metrics"].pop("val/absent") is None
    check_equal_training(one, many, 1e-12)
    assert not [path for path in run_folder("odd-2").rglob("*") if ".tmp" in path.name]
    evaluated = launch("eval", "odd-2", "--json", cwd=own)
    assert evaluated.document["metrics"] == {
        key: value for key, value in outcome_of("odd-2")["metrics"].items() if key.startswith("val/")
    }

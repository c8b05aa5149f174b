from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

from lockstep.training.components.batch_norm import has_batch_norm
from lockstep.training.components.stand_in import standing_in
from lockstep.training.components.sync_batch_norm import SyncBatchNorm, synchronised
from lockstep.training.rank.process_group import Group
from lockstep.training.session.kept_buffers import preserved_buffers
from tests.helpers.threaded_ranks import threaded_groups

ROWS = 11


def _model(momentum: float | None = 0.1) -> nn.Sequential:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(2, 3, 2),
        nn.BatchNorm2d(3, momentum=momentum),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(27, 4),
    )
    return nn.Sequential(*layers, nn.BatchNorm1d(4, affine=False, momentum=momentum)).double()


def _images(step: int) -> torch.Tensor:
    return torch.randn(ROWS, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step)) + 3


def _passes(model: nn.Module, rows: list[slice | None]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """One pass for each step over some of its rows, or over a stand-in; outputs, and gradients of all passes."""
    outputs = []
    for step, part in enumerate(rows):
        images = _images(step)
        if part is None:
            with standing_in(), preserved_buffers(model):
                (model(images[:2]).sum() * 0).backward()
            continue
        output = model(images[part])
        weights = torch.linspace(1, 2, ROWS, dtype=torch.float64)[part, None]
        (output.pow(3) * weights).sum().backward()
        outputs.append(output.detach())
    return outputs, [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_two_ranks_compute_what_one_process_does_of_the_whole(momentum: float | None) -> None:
    cuts: list[list[slice | None]] = [
        [slice(0, 6), slice(0, 1), slice(0, 11)],
        [slice(6, 11), slice(1, 11), None],  # a single sample, and none
    ]
    models = [synchronised(_model(momentum), group) for group in threaded_groups()]
    with ThreadPoolExecutor(2) as pool:
        (one, first), (other, second) = pool.map(_passes, models, cuts)
    whole = _model(momentum)
    outputs, gradients = _passes(whole, [slice(0, ROWS)] * 3)
    for got, expected in zip(
        [torch.cat(pair) for pair in zip(one, other, strict=False)], outputs, strict=False
    ):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(one[2], outputs[2], rtol=0, atol=1e-12)
    for mine, others, expected in zip(first, second, gradients, strict=True):
        torch.testing.assert_close(mine + others, expected, rtol=1e-12, atol=1e-9)
    for model in models:
        assert model.state_dict().keys() == whole.state_dict().keys()
        for name, buffer in whole.named_buffers():
            torch.testing.assert_close(dict(model.named_buffers())[name], buffer, rtol=0, atol=1e-12)


def test_a_pass_in_which_no_rank_counts_leaves_numbers_and_statistics() -> None:
    models = [synchronised(_model(), group) for group in threaded_groups()]
    before = {name: buffer.clone() for name, buffer in models[0].named_buffers()}
    with ThreadPoolExecutor(2) as pool:
        for _, gradients in pool.map(_passes, models, [[None], [None]]):
            assert all(bool((gradient == 0).all()) for gradient in gradients)
    for model in models:
        assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())


def test_alone_and_in_evaluation_it_is_torchs_to_the_bit(alone: Group) -> None:
    model, plain = synchronised(_model(), alone), _model()
    for mode in (True, False):
        assert torch.equal(model.train(mode)(_images(0)), plain.train(mode)(_images(0)))
    two = synchronised(_model(), Group(0, 0, 2, torch.device("cpu"))).eval()
    assert torch.equal(two(_images(0)), _model().eval()(_images(0)))


def test_parameters_buffers_and_names_are_the_norms_own(alone: Group) -> None:
    model = _model()
    before: dict[str, Any] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    made = synchronised(model, alone)
    after: dict[str, Any] = {**dict(made.named_parameters()), **dict(made.named_buffers())}
    assert {name: id(tensor) for name, tensor in after.items()} == {n: id(t) for n, t in before.items()}
    assert sum(isinstance(module, SyncBatchNorm) for module in made.modules()) == 2
    assert has_batch_norm(_model().train())
    assert not has_batch_norm(made.train()), "its numbers do not depend on the number of processes"
    kept = synchronised(nn.BatchNorm1d(3, track_running_stats=False), alone)
    assert not isinstance(kept, SyncBatchNorm), "in evaluation it would go by each rank's own batch"

from __future__ import annotations

import pytest
import torch
from torch import nn

from lockstep.data.common.errors import MachineError
from lockstep.training.components.precision import choose_precision

CPU = torch.device("cpu")


class Product(nn.Module):
    """Multiplies by one matrix, so that the arithmetic shows in the rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 64).reshape(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


INPUT = torch.linspace(-3, 3, 24).reshape(3, 8) / 7


def test_auto_on_a_cpu_is_fp32() -> None:
    numerics = choose_precision("auto", CPU)
    assert (numerics.name, numerics.dtype, numerics.accelerate_name) == ("fp32", torch.float32, "no")
    assert numerics.scaler() is None


def test_fp16_on_a_cpu_really_computes_in_fp16_with_master_weights_in_fp32() -> None:
    """Accelerate's ``mixed_precision="fp16"`` would silently stay in fp32 here."""
    numerics = choose_precision("fp16", CPU)
    model = numerics.prepare(Product())
    output = model(INPUT)
    weight = model.weight.detach()
    assert torch.equal(output, (INPUT.half() @ weight.half()).float())
    assert not torch.equal(output, INPUT @ weight)
    assert (output.dtype, model.weight.dtype) == (torch.float32, torch.float32)
    assert numerics.accelerate_name == "no"
    scaler = numerics.scaler()
    assert scaler is not None
    assert scaler.is_enabled()


def test_fp16_holds_in_evaluation_too() -> None:
    model = choose_precision("fp16", CPU).prepare(Product()).eval()
    with torch.inference_mode():
        assert torch.equal(model(INPUT), (INPUT.half() @ model.weight.half()).float())


def test_bf16_is_left_to_accelerate_and_needs_no_scaler() -> None:
    numerics = choose_precision("bf16", CPU)
    assert (numerics.accelerate_name, numerics.dtype, numerics.scaler()) == ("bf16", torch.float32, None)


def test_fp64_is_double_from_the_parameters_to_the_output() -> None:
    numerics = choose_precision("fp64", CPU)
    model = numerics.prepare(nn.Sequential(Product(), nn.BatchNorm1d(8)))
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert model[1].running_mean.dtype == torch.float64
    assert model[1].num_batches_tracked.dtype == torch.int64
    assert model(INPUT.double()).dtype == torch.float64
    assert (numerics.dtype, numerics.accelerate_name) == (torch.float64, "no")


def test_fp32_leaves_the_model_as_it_is() -> None:
    model = Product()
    assert choose_precision("fp32", CPU).prepare(model) is model
    assert torch.equal(model(INPUT), INPUT @ model.weight)


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A GPU whose bf16 is emulated."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda *, including_emulation=True: including_emulation
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    return torch.device("cuda", 0)


def test_bf16_is_refused_where_it_would_be_emulated_and_auto_is_fp32(old_gpu: torch.device) -> None:
    with pytest.raises(MachineError, match="Old GPU has no bf16") as caught:
        choose_precision("bf16", old_gpu)
    assert "fp16" in caught.value.hint
    assert choose_precision("auto", old_gpu).name == "fp32"
    assert choose_precision("fp16", old_gpu).accelerate_name == "fp16"


def test_auto_is_bf16_on_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation=True: True)
    assert choose_precision("auto", torch.device("cuda", 0)).name == "bf16"

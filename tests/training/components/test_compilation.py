"""The compiler's part that is ours: torch's front end is the real one, and its back end the one that makes no C++."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from lockstep.data.common.errors import MachineError
from lockstep.training.components.compilation import Compilation
from lockstep.training.tensors.plain_names import plain_state

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_compiler() -> Iterator[None]:
    """A compiler that knows no program yet, and whose settings are as they were afterwards."""
    from torch._dynamo import config
    from torch._dynamo.callback import callback_handler

    torch.compiler.reset()
    with config.patch(recompile_limit=config.recompile_limit, fail_on_recompile_limit_hit=False):
        yield
    callback_handler.clear()
    torch.compiler.reset()


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def _rows(count: int) -> torch.Tensor:
    return torch.linspace(-1, 1, 3 * count, dtype=torch.float64).reshape(count, 3)


@pytest.mark.exhaustive
def test_names_stay_and_numbers_are_the_models() -> None:
    model, plain = _model(), _model()
    compilation = Compilation(model, "default", CPU, backend="aot_eager")
    assert list(plain_state(model)) == list(model.state_dict()) == list(plain.state_dict())
    for one in (model, plain):
        one(_rows(7)).square().sum().backward()
    assert compilation.programs == 1
    pairs = zip(model.parameters(), plain.parameters(), strict=True)
    assert all(torch.equal(one.grad, other.grad) for one, other in pairs if one.grad is not None)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_each_shape_has_a_program_of_its_own_whatever_came_before() -> None:
    """Torch's own way makes one for all further shapes: what it computes would depend on which came first."""
    model = _model()
    compilation = Compilation(model, "default", CPU, backend="eager")
    for rows in (7, 7, 4, 5, 7, 4):
        model(_rows(rows))
    assert compilation.programs == 3


def test_one_program_for_all_shapes_is_made_where_it_is_asked_for() -> None:
    model = _model()
    compilation = Compilation(model, "dynamic", CPU, backend="eager")
    for rows in (7, 7, 4, 5):
        model(_rows(rows))
    assert compilation.programs == 1


def test_an_evaluation_runs_the_model_as_it_is() -> None:
    model = _model()
    compilation = Compilation(model, "default", CPU, backend="eager")
    assert torch.equal(model.eval()(_rows(7)), _model()(_rows(7)))
    assert compilation.programs == 0
    model.train()(_rows(7))
    assert compilation.programs == 1


@pytest.mark.exhaustive
def test_what_was_compiled_is_said_once_with_its_time() -> None:
    model = _model()
    compilation = Compilation(model, "default", CPU, backend="eager")
    assert compilation.news() is None
    model(_rows(7))
    first = compilation.news()
    assert first is not None
    assert first.startswith("train.compile: compiled 1 program, ")
    assert compilation.seconds > 0
    assert compilation.take_seconds() == compilation.seconds
    assert compilation.take_seconds() == 0
    assert compilation.news() is None
    model(_rows(4))
    assert "compiled again, mostly for a batch of another shape: 2 programs" in str(compilation.news())
    for rows in range(8, 15):
        model(_rows(rows))
    assert "compile=dynamic makes one for all shapes" in str(compilation.news())


def test_more_shapes_than_programs_end_the_run_instead_of_its_compilation() -> None:
    from torch._dynamo import config
    from torch._dynamo.exc import FailOnRecompileLimitHit

    model = _model()
    Compilation(model, "default", CPU, backend="eager")
    assert config.recompile_limit == 64
    with config.patch(recompile_limit=2):
        model(_rows(2))
        model(_rows(3))
        with pytest.raises(FailOnRecompileLimitHit):
            model(_rows(4))


def test_a_missing_compiler_is_named_before_anything_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MachineError, match="there is no compiler no-such-compiler"):
        Compilation(_model(), "default", CPU)

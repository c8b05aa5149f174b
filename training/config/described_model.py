"""What a config says of its model, in one line of the plan; nothing of what is as usual."""

from __future__ import annotations

from .model_config import ModelConfig


def model_lines(model: ModelConfig, *, compiled: bool | str, strategy: str) -> list[str]:
    """Return one line with what is in force for the model; none where nothing is.

    Args:
        model: the ``model:`` section.
        compiled: ``train.compile``.
        strategy: ``train.strategy``.
    """
    weights = f"{'what fits' if model.weights_match == 'partial' else 'weights'} from {model.weights}"
    parts = [
        weights if model.weights else "",
        f"head {model.head}" if model.head != "auto" else "",
        "FSDP: a part of each parameter on each process" if strategy == "fsdp" else "",
        f"compiled{'' if compiled is True else f' ({compiled})'}" if compiled else "",
    ]
    found = ", ".join(filter(None, parts))
    return [f"model {model.use}: {found}"] if found else []

"""The ``model:`` section. No torch here: the command line reads this file."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator


class FrozenModelConfig(BaseModel, frozen=True, extra="forbid"):
    """A model that a step gets, and that is not trained."""

    use: str = Field(default="mlp", min_length=1)
    """The model: a built-in one, ``torchvision.NAME``, ``package.module:callable`` or ``./file.py:name``."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the model: those listed below for a built-in one, those of the builder for any other."""
    weights: str | None = Field(default=None, min_length=1)
    """Initial weights instead of random ones: a run, a checkpoint's folder, a ``.safetensors`` file, or one that
    ``torch.save`` has written and that holds tensors only."""
    weights_match: Literal["strict", "partial"] = "strict"
    """``strict`` refuses weights of another model; ``partial`` loads what fits by name and shape, and says what not."""
    head: str = Field(default="auto", min_length=1)
    """The last layer, where it has other outputs than the data has classes: ``auto`` replaces that of a torchvision
    model, ``keep`` none, and the name of a layer replaces that one."""


class ModelConfig(FrozenModelConfig, frozen=True, extra="forbid"):
    """The ``model:`` section."""

    checkpointing: str | None = Field(default=None, min_length=1)
    """A pattern of names: these modules are computed again in the backward pass, which takes less memory."""
    channels_last: bool = False
    """Keep the weights of two-dimensional convolutions in the layout that tensor cores read."""
    sync_batch_norm: bool = False
    """Batch norms go by the samples of all ranks, as in one process."""

    frozen: dict[str, FrozenModelConfig] = Field(default_factory=dict)
    """Models that the step gets by these names besides the one that is trained: a teacher. They stay as they are, in
    evaluation mode, and no checkpoint has them; a resumed run refuses other weights of theirs."""

    @field_validator("checkpointing")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value


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
        "synchronised batch norm" if model.sync_batch_norm else "",
        f"gradient checkpointing of {model.checkpointing}" if model.checkpointing else "",
        "channels last" if model.channels_last else "",
        f"compiled{'' if compiled is True else f' ({compiled})'}" if compiled else "",
    ]
    found = ", ".join(filter(None, parts))
    return [f"model {model.use}: {found}"] if found else []

"""The ``model:`` section. No torch here: the command line reads this file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class ModelConfig(BaseModel, frozen=True, extra="forbid"):
    """The ``model:`` section."""

    use: str = Field(default="mlp", min_length=1)
    """A model of ``components/models.py``, ``torchvision.NAME``, ``package.module:callable`` or ``./file.py:name``."""
    args: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = Field(default=None, min_length=1)
    """Initial weights instead of random ones: a run, a checkpoint's folder, a ``.safetensors`` file, or one that
    ``torch.save`` has written and that holds tensors only."""
    weights_match: Literal["strict", "partial"] = "strict"
    """``strict`` refuses weights of another model; ``partial`` loads what fits by name and shape, and says what not."""
    head: str = Field(default="auto", min_length=1)
    """The last layer, where it has other outputs than the data has classes: ``auto`` replaces that of a torchvision
    model, ``keep`` none, and the name of a layer replaces that one."""

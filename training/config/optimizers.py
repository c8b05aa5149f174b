"""The optimizers that a config can name: a new one is a line in ``OPTIMIZERS`` and its own keys, here.

No torch: the command line reads this file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator


@dataclass(frozen=True)
class Optimizer:
    """An optimizer's class, and the keys that it has besides the common ``lr`` and ``weight_decay``."""

    torch_class: str
    """``package.module:Class``."""
    keys: tuple[str, ...]
    """Fields of ``OptimizerConfig``, which are the class's arguments under the same names."""
    fused: bool = False
    """Whether the class has ``fused``: fewer kernels, and no host sync under fp16."""


OPTIMIZERS = {
    "sgd": Optimizer("torch.optim:SGD", keys=("momentum", "nesterov"), fused=True),
    "adam": Optimizer("torch.optim:Adam", keys=("betas", "eps"), fused=True),
    "adamw": Optimizer("torch.optim:AdamW", keys=("betas", "eps"), fused=True),
}
IDENTITY_KEYS = ("momentum", "nesterov", "betas", "eps")
"""Keys that are part of a run's identity even when unset, as in the first version; a later key is only when it is set,
because otherwise no older checkpoint would fit."""

if TYPE_CHECKING:
    OptimizerName = str
else:
    OptimizerName = Literal[tuple(OPTIMIZERS)]  # pydantic then lists the names in its error
Beta = Annotated[float, Field(ge=0, lt=1)]


def optimizer_keys() -> tuple[str, ...]:
    """List the keys that some optimizers have and others do not."""
    return tuple(dict.fromkeys(key for optimizer in OPTIMIZERS.values() for key in optimizer.keys))


def unsupported_keys(name: str) -> tuple[str, ...]:
    """List those of ``optimizer_keys`` that an optimizer does not have; none for an unknown name."""
    known = OPTIMIZERS.get(name)
    return tuple(key for key in optimizer_keys() if known and key not in known.keys)


class ParameterGroupConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings for the parameters whose name a pattern finds; the first match wins."""

    match: str
    lr: float | None = Field(default=None, gt=0)
    weight_decay: float | None = Field(default=None, ge=0)

    @field_validator("match")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value


class OptimizerConfig(BaseModel, frozen=True, extra="forbid"):
    """The ``optimizer:`` section; a key that only some optimizers have is None where it is unset."""

    use: OptimizerName = "adam"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    nesterov: bool | None = None
    betas: tuple[Beta, Beta] | None = None
    eps: float | None = Field(default=None, gt=0)
    groups: tuple[ParameterGroupConfig, ...] = ()

    # Validators of fields, not of the whole: those run only once every field is right, so that
    # their findings would appear one correction later than the rest, and without a line.
    @field_validator("*")
    @classmethod
    def _optimizer_has_key(cls, value: Any, info: ValidationInfo) -> Any:
        use = str(info.data.get("use"))
        if value is not None and info.field_name in unsupported_keys(use):
            raise ValueError(f"{use} has no {info.field_name}")
        return value

    @field_validator("nesterov")
    @classmethod
    def _has_momentum(cls, value: Any, info: ValidationInfo) -> Any:
        if value and not info.data.get("momentum", 1):
            raise ValueError("nesterov needs a momentum above 0")
        return value

    def own_arguments(self) -> dict[str, Any]:
        """Select the keys of this optimizer that are set, as arguments of its class."""
        values = {key: getattr(self, key) for key in OPTIMIZERS[self.use].keys}
        return {key: value for key, value in values.items() if value is not None}

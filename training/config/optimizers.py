"""The optimizers that a config can name: a new one is a line in ``OPTIMIZERS`` and its own keys, here.

No torch: the command line reads this file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from ...data.common import closest_name
from ...data.config import ConfigSection
from .duration import Length


@dataclass(frozen=True)
class Optimizer:
    """An optimizer's class, and the keys that it has besides the common ``lr`` and ``weight_decay``."""

    torch_class: str
    """``package.module:Class``."""
    keys: tuple[str, ...]
    """Fields of ``OptimizerConfig``, which are the class's arguments under the same names."""
    fused: bool = False
    """Whether the class has ``fused``: fewer kernels, and no host sync under fp16."""
    lr: float = 1e-3
    """The learning rate where none is given: the class's own."""


_ADAM = ("betas", "eps", "amsgrad")
OPTIMIZERS = {
    "sgd": Optimizer("torch.optim:SGD", keys=("momentum", "nesterov", "dampening"), fused=True),
    "adam": Optimizer("torch.optim:Adam", keys=_ADAM, fused=True),
    "adamw": Optimizer("torch.optim:AdamW", keys=_ADAM, fused=True),
    "rmsprop": Optimizer("torch.optim:RMSprop", keys=("momentum", "eps", "alpha", "centered"), lr=1e-2),
    "adagrad": Optimizer(
        "torch.optim:Adagrad", keys=("eps", "lr_decay", "initial_accumulator_value"), lr=1e-2
    ),
    "adadelta": Optimizer("torch.optim:Adadelta", keys=("eps", "rho"), lr=1.0),
    "nadam": Optimizer(
        "torch.optim:NAdam", keys=("betas", "eps", "momentum_decay", "decoupled_weight_decay"), lr=2e-3
    ),
    "radam": Optimizer("torch.optim:RAdam", keys=("betas", "eps", "decoupled_weight_decay")),
    "muon": Optimizer("torch.optim:Muon", keys=("momentum", "nesterov", "eps", "ns_steps", "adjust_lr_fn")),
}
IDENTITY_KEYS = ("momentum", "nesterov", "betas", "eps")
"""Keys that are part of a run's identity even when unset, as in the first version; a later key is only when it is set,
because otherwise no older checkpoint would fit."""


def is_own(name: str) -> bool:
    """Tell whether an optimizer is the user's: ``package.module:callable`` or ``./file.py:callable``."""
    return ":" in name


def _known(name: str) -> str:
    if name in OPTIMIZERS or is_own(name):
        return name
    guess = closest_name(name, list(OPTIMIZERS))
    meant = f"; did you mean {guess}?" if guess else ""
    own = "package.module:Class or ./file.py:optimizer"
    raise ValueError(f"must be one of {', '.join(OPTIMIZERS)}, or {own}{meant}")


OptimizerName = Annotated[str, AfterValidator(_known)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


def optimizer_keys() -> tuple[str, ...]:
    """List the keys that some optimizers have and others do not."""
    return tuple(dict.fromkeys(key for optimizer in OPTIMIZERS.values() for key in optimizer.keys))


def unsupported_keys(name: str) -> tuple[str, ...]:
    """List those of ``optimizer_keys`` and ``args`` that an optimizer does not have; none for an unknown name."""
    if is_own(name):
        return optimizer_keys()
    known = OPTIMIZERS.get(name)
    return tuple(key for key in (*optimizer_keys(), "args") if known and key not in known.keys)


def _own_rate(settings: dict[str, Any]) -> float | None:
    return OPTIMIZERS[settings["use"]].lr if settings.get("use") in OPTIMIZERS else None


def _own_decay(settings: dict[str, Any]) -> float | None:
    return None if is_own(str(settings.get("use"))) else 0.0


def _compiles(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


Pattern = Annotated[str, AfterValidator(_compiles)]
_ALWAYS_WRITTEN = ("match", "lr", "weight_decay")


class ParameterSelection(ConfigSection):
    """Parameters by name and number of dimensions."""

    match: Pattern | None = None
    """A regular expression that the name contains; unset: any name."""
    max_ndim: int | None = Field(default=None, ge=0)
    """At most this many dimensions: 1 takes biases and what norms have."""
    min_ndim: int | None = Field(default=None, ge=0)
    """At least this many dimensions: 2 takes matrices and what convolutions have."""

    def takes(self, name: str, ndim: int) -> bool:
        """Tell whether a parameter is selected."""
        fits = (self.min_ndim or 0) <= ndim <= (ndim if self.max_ndim is None else self.max_ndim)
        return fits and (self.match is None or re.search(self.match, name) is not None)

    @property
    def selects(self) -> bool:
        """Return whether name or dimensions are restricted."""
        return any(value is not None for value in (self.match, self.max_ndim, self.min_ndim))

    @property
    def description(self) -> str:
        """Return what is selected, in words."""
        limits = (("max_ndim", self.max_ndim), ("min_ndim", self.min_ndim))
        sizes = [f"{key} {ndim}" for key, ndim in limits if ndim is not None]
        return ", ".join([*([self.match] if self.match is not None else []), *sizes])


class FreezableSelection(ParameterSelection):
    """Parameters with the settings that all optimizers have, and the time in which they are trained."""

    lr: float | None = Field(default=None, gt=0)
    """The learning rate of these parameters; unset: that of the optimizer."""
    weight_decay: float | None = Field(default=None, ge=0)
    """The weight decay of these parameters; unset: that of the optimizer."""
    frozen: bool | None = None
    """Not trained at all, or, with ``until``, not before that."""
    until: Length | None = None
    """Frozen before this, trained from there on: ``500 steps``, ``2 epochs``, ``5 %``."""
    after: Length | None = None
    """Trained before this, frozen from there on."""

    @model_validator(mode="after")
    def _is_clear(self) -> Self:
        if not self.selects:
            raise ValueError("say which parameters it is for: match, max_ndim or min_ndim")
        if self.frozen is False and (self.until or self.after):
            raise ValueError("until and after say when it is frozen, so frozen cannot be false")
        if self.frozen and self.after and not self.until:
            raise ValueError(
                "with frozen: true it is never trained, so that after says nothing; leave frozen out"
            )
        return self

    @property
    def always_frozen(self) -> bool:
        """Return whether its parameters are never trained."""
        return bool(self.frozen) and self.until is None

    @model_serializer(mode="wrap")
    def _as_before(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out keys that are unset and that the first version did not have: its checkpoints do not have them."""
        values = serialise(self)
        return {key: value for key, value in values.items() if value is not None or key in _ALWAYS_WRITTEN}


class _Chosen(ConfigSection):
    use: OptimizerName = "adam"
    """One of those listed below, ``package.module:Class``, or ``(named_parameters, **args) -> Optimizer``."""
    lr: float | None = Field(default_factory=_own_rate, gt=0)
    """The learning rate, which the schedule multiplies; unset: the optimizer's own."""
    weight_decay: float | None = Field(default_factory=_own_decay, ge=0)
    """How strongly weights are drawn to zero; unset: not at all, and an optimizer of your own has its own default."""


class _OwnKeys(ConfigSection):
    """The keys that only some optimizers have, None where they are unset."""

    momentum: Share | None = None
    """The share of the previous update that is added to the next one."""
    nesterov: bool | None = None
    """Nesterov's momentum, which looks one step ahead."""
    betas: tuple[Share, Share] | None = None
    """The decay rates of the running averages of the gradient and of its square."""
    eps: Positive | None = None
    """What is added to a denominator, so that nothing is divided by zero."""
    dampening: Share | None = None
    """The share of the gradient that does not enter the momentum."""
    amsgrad: bool | None = None
    """Divide by the largest average of squares so far instead of the newest (AMSGrad)."""
    alpha: Share | None = None
    """The decay rate of the running average of squared gradients."""
    centered: bool | None = None
    """Divide by an estimate of the gradient's variance instead of its square's average."""
    rho: Share | None = None
    """The decay rate of the running averages of squared gradients and squared updates."""
    lr_decay: NotNegative | None = None
    """The learning rate is divided by 1 + this times the number of steps so far."""
    initial_accumulator_value: NotNegative | None = None
    """What the sum of squared gradients begins at."""
    momentum_decay: NotNegative | None = None
    """How quickly the momentum grows to its final value."""
    decoupled_weight_decay: bool | None = None
    """Decay the weights themselves, as AdamW does, instead of adding the decay to the gradient."""
    ns_steps: Annotated[int, Field(gt=0, lt=100)] | None = None
    """Newton-Schulz iterations that make an update orthogonal."""
    adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = None
    """How the rate follows a matrix's shape: as Muon's first version has it, or so that updates are AdamW's size."""
    args: dict[str, Any] | None = None
    """Arguments of an optimizer of your own, by name."""

    def own_arguments(self) -> dict[str, Any]:
        """Select what is set of it, as arguments of the class."""
        values = {key: getattr(self, key) for key in optimizer_keys()}
        return {
            key: value for key, value in (*values.items(), *(self.args or {}).items()) if value is not None
        }


class ParameterGroupConfig(_OwnKeys, FreezableSelection):
    """Settings of the parameters that are selected; the first group that takes one has it."""


class OptimizerConfig(_OwnKeys, _Chosen):
    """The ``optimizer:`` section."""

    groups: tuple[ParameterGroupConfig, ...] = ()
    """Settings for some of the parameters; each parameter has those of the first group that takes it."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """The learning rate of a layer is that of the layer behind it times this; the last layer has ``lr``."""
    layers: tuple[Pattern, ...] | None = None
    """For ``layer_decay``: patterns of the layers' names, from input to output; unset: as the model lists them."""
    clip_norm: Positive | None = None
    """The largest norm of the gradient of all parameters together; a longer one is scaled down to it."""
    clip_value: Positive | None = None
    """The largest absolute value in a gradient, before ``clip_norm``."""

    # Validators of fields, not of the whole: those run only once every field is right, so that
    # their findings would appear one correction later than the rest, and without a line.
    @field_validator("*")
    @classmethod
    def _optimizer_has_key(cls, value: Any, info: ValidationInfo) -> Any:
        use = str(info.data.get("use"))
        if value is not None and info.field_name in unsupported_keys(use):
            raise ValueError(_has_no(use, str(info.field_name)))
        return value

    @field_validator("nesterov")
    @classmethod
    def _has_momentum(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("use") == "sgd" and not info.data.get("momentum", 1):
            raise ValueError("nesterov needs a momentum above 0")
        return value

    @field_validator("groups")
    @classmethod
    def _groups_have_keys(
        cls, value: tuple[ParameterGroupConfig, ...], info: ValidationInfo
    ) -> tuple[ParameterGroupConfig, ...]:
        use = str(info.data.get("use"))
        for at, group in enumerate(value):
            for key in unsupported_keys(use):
                if getattr(group, key) is not None:
                    raise ValueError(f"{_has_no(use, key)} (group {at + 1})")
        return value

    @field_validator("layers")
    @classmethod
    def _has_layer_decay(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("layer_decay", 1) is None:
            raise ValueError("layers are for layer_decay, which is not set")
        return value


def _has_no(use: str, key: str) -> str:
    advice = f"; write it as args: {{{key}: ...}}" if is_own(use) else ""
    return f"{use} has no {key}{advice}"

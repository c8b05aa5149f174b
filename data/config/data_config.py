"""What a config may say about data. No torch here: the command line reads this file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)


def _on_or_off(value: Any) -> Any:
    """Read what YAML makes of ``on`` and ``off``."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


@dataclass(frozen=True)
class MeasuredIn:
    """The unit of a setting's number, as ``Annotated[int, MeasuredIn("steps")]``; the reference shows it."""

    unit: str
    """A plural: ``seconds``."""


Samples = Annotated[int, MeasuredIn("samples")]


def _number_or_auto(value: Any, number: ValidatorFunctionWrapHandler) -> Any:
    return value if value == "auto" else number(value)


if TYPE_CHECKING:
    MicroBatch = int | Literal["auto"]
else:  # pydantic would name both sides of a union in its messages
    MicroBatch = Annotated[
        Samples, Field(gt=0), WrapValidator(_number_or_auto), PlainSerializer(lambda value: value)
    ]


class ConfigSection(BaseModel):
    """A frozen part of a config; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AugmentConfig(ConfigSection):
    """The ``data.augment:`` section: what is drawn anew for every training image in every epoch."""

    crop: Annotated[int, MeasuredIn("pixels")] = Field(default=0, ge=0)
    """A random crop of the original size, after this many pixels of padding on each side; 0 is none."""
    flip: bool = False
    """Mirror every other image, left to right."""


class FoldConfig(ConfigSection):
    """The ``data.fold:`` section: one of ``k`` runs, each of which validates on another part of the training set."""

    k: int = Field(gt=1)
    """Parts, as equal as can be, the same for every run."""
    index: int = Field(ge=0)
    """The part that is validated on, from 0 on; the others are trained on."""

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.index >= self.k:
            raise ValueError(f"there is no part {self.index} of {self.k}: they are counted from 0")
        return self


class PadConfig(ConfigSection):
    """The ``data.pad:`` section: samples of different lengths become one batch."""

    to: Literal["longest"] | Annotated[int, Field(gt=0), MeasuredIn("elements")] = "longest"
    """The length to pad to: of the longest sample in the global batch, whichever process has it, or a fixed one."""
    multiple_of: Annotated[int, MeasuredIn("elements")] = Field(default=1, gt=0)
    """Rounds the longest up, so that there are fewer different shapes."""
    value: float = 0
    """What is put behind a sequence."""
    values: dict[str, float] = Field(default_factory=dict)
    """The same for parts of a sample by name, such as ``{labels: -100}`` or ``{target: -100}``."""
    mask: str | None = Field(default=None, min_length=1)
    """A key of samples that are dicts, to be added: true where a sequence is, false where it is padded."""


class SetConfig(ConfigSection):
    """One of several data sets, in ``data.sets:``."""

    use: str = Field(min_length=1)
    """As ``data.use``."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the data set."""
    weight: float | None = Field(default=None, ge=0)
    """Its share of an epoch's samples, in proportion to the weights of the others; 0: it is only evaluated on. Unset in
    all of them: each sample of each comes once."""


MIX = "mix"
"""What ``data.use`` is where there are ``data.sets``."""


class DataConfig(ConfigSection):
    """The ``data:`` section."""

    use: str = Field(default="digits", min_length=1)
    """What to train on: a built-in data set, ``package.module:callable`` or ``./file.py:callable``."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the data set: those listed below for a built-in one, those of the callable for your own."""
    root: str | None = None
    """The folder of downloaded data sets; else ``$LOCKSTEP_DATA``, else ``~/.cache/lockstep/data``."""
    val_size: Samples | None = Field(default=None, ge=0)
    """Samples split off the training set for validation; unset: the data set's own validation set; 0: none."""
    fold: FoldConfig | None = None
    """Cross-validation, in the place of ``val_size``."""
    group: Annotated[str, Field(min_length=1)] | Literal[False] | None = None
    """A column whose values ``fold`` and ``val_size`` keep together. Unset: ``groups``, where ``data()`` returns them;
    false: nothing."""
    stratify: bool = False
    """Whether ``fold`` and ``val_size`` leave each part the same share of every class."""
    sets: dict[str, SetConfig] | None = Field(default=None, min_length=1)
    """Several data sets by name, in the place of ``use``."""
    weights: Annotated[str, Field(min_length=1)] | Literal[False] | None = None
    """A column of sampling weights: a sample is drawn in proportion to it, with replacement. Unset: ``weights``, where
    ``data()`` returns them; false: none."""
    balance: Literal["classes"] | None = None
    """Draws the same number of samples of each class."""
    epoch_size: Samples | None = Field(default=None, gt=0)
    """Samples of an epoch; unset is as many as there are."""
    batch_size: Samples = Field(default=64, gt=0)
    """Samples per optimizer step over all processes: the global batch."""
    workers: Annotated[int, MeasuredIn("processes")] = Field(default=2, ge=0)
    """Loader processes per rank, for data sets that are read sample by sample."""
    max_micro_batch: MicroBatch | None = None
    """Most samples that one rank puts through the model at once; more are accumulated. ``auto``: halved as often as
    memory runs out."""
    cache: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_or_off)] = "auto"
    """Decode image files once, into a file that all processes share: ``auto`` where half of the free disk and of the
    memory hold it."""
    scale_uint8: bool | None = None
    """Divide uint8 inputs of a user's own data by 255; unset is no. Images of the other data sets always are."""
    collate: str | None = Field(default=None, min_length=1)
    """What makes a batch of a list of samples, ``package.module:callable`` or ``./file.py:callable``; for data of a
    user's own that are read sample by sample."""
    pad: PadConfig | None = None
    """Pads samples of different lengths, on any number of processes alike; for data that are read one by one."""
    samples: Literal["pairs", "any"] | None = None
    """What a sample is: a pair (input, target), or any tree of tensors and strings, which only a ``step`` can train on.
    Unset: pairs; with a step or a ``target``, any."""
    target: str | None = Field(default=None, min_length=1)
    """The entry of a sample that is a dict which is its target: the model is called with the others by name,
    ``model(**inputs)``."""
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    """Random changes of training images; unset is none."""

    @model_validator(mode="before")
    @classmethod
    def _sets_take_the_place_of_use(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("sets"):
            return values
        if values.get("use", MIX) != MIX:
            raise ValueError(
                f"sets: use: {values['use']} says what is trained on, too: leave one of them out"
            )
        if values.get("args"):
            raise ValueError("sets: the arguments of a set are its own: sets: {NAME: {use: …, args: …}}")
        return {**values, "use": MIX}

    @model_validator(mode="after")
    def _is_sampled_in_one_way(self) -> Self:
        if self.use == MIX and not self.sets:
            raise ValueError("use: mix needs the sets: sets: {NAME: {use: …, weight: …}}")
        sets = self.sets or {}
        odd = [name for name in sets if not re.fullmatch(r"\w+", name, re.ASCII)]
        if odd:
            raise ValueError(f"sets: {odd[0]!r} is no name of letters and digits, as val_NAME needs")
        missing = [name for name, one in sets.items() if one.weight is None]
        if missing and len(missing) < len(sets):
            raise ValueError(
                f"sets: {missing[0]} has no weight, and others have: give all of them one, or none"
            )
        if sets and not missing and not any(one.weight for one in sets.values()):
            raise ValueError("sets: all weights are 0, so that there is nothing to train on")
        ways = {
            "sets with a weight": bool(sets) and not missing,
            "balance": self.balance,
            "weights": self.weights,
        }
        asked = [way for way, wanted in ways.items() if wanted]
        if len(asked) > 1:
            raise ValueError(
                f"{asked[0]} and {asked[1]} each say how often a sample comes: leave one of them out"
            )
        return self

    @property
    def micro_limit(self) -> int | None:
        """The most samples of a pass; None where there is no limit, or none was found yet."""
        return None if self.max_micro_batch == "auto" else self.max_micro_batch

"""What a config may say about data. No torch here: the command line reads this file."""

from __future__ import annotations

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

    @property
    def micro_limit(self) -> int | None:
        """The most samples of a pass; None where there is no limit, or none was found yet."""
        return None if self.max_micro_batch == "auto" else self.max_micro_batch

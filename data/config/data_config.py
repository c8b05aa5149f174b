"""What a config may say about data. No torch here: the command line reads this file."""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from .sections import ConfigSection, MeasuredIn, PackConfig, PadConfig


def _on_or_off(value: Any) -> Any:
    """Read what YAML makes of ``on`` and ``off``."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Samples = Annotated[int, MeasuredIn("samples")]


def _number_or_auto(value: Any, number: ValidatorFunctionWrapHandler) -> Any:
    return value if value == "auto" else number(value)


if TYPE_CHECKING:
    MicroBatch = int | Literal["auto"]
else:  # pydantic would name both sides of a union in its messages
    MicroBatch = Annotated[
        Samples, Field(gt=0), WrapValidator(_number_or_auto), PlainSerializer(lambda value: value)
    ]


class _Number(NamedTuple):
    default: float
    low: float
    high: float
    whole: bool = False

    def read(self, value: Any) -> float | None:
        """Return the number, or None where it is none that is allowed."""
        good = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
        good = good and self.low <= value <= self.high and (not self.whole or value == int(value))
        return value if good else None

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:g}" + (f" to {self.high:g}" if isfinite(self.high) else " on")


class _Range(NamedTuple):
    default: tuple[float, float]
    low: float
    high: float

    def read(self, value: Any) -> tuple[float, ...] | None:
        """Return the two numbers, or None where they are none that are allowed."""
        if not isinstance(value, list | tuple) or len(value) != 2:  # noqa: PLR2004 - a pair
            return None
        ends = [_Number(0, self.low, self.high).read(end) for end in value]
        return None if None in ends or value[0] > value[1] else (value[0], value[1])

    def __str__(self) -> str:
        return f"[least, most], each {_Number(0, self.low, self.high)}"


_ANY = float("inf")
_SHARE = _Number(0.5, 0, 1)
OPERATIONS: dict[str, dict[str, _Number | _Range]] = {
    "crop": {"padding": _Number(4, 0, _ANY, whole=True)},
    "flip": {"p": _SHARE},
    "flip_vertical": {"p": _SHARE},
    "random_resized_crop": {
        "scale": _Range((0.08, 1.0), 1e-4, 1),
        "ratio": _Range((3 / 4, 4 / 3), 0.01, 100),
    },
    "rotate": {"degrees": _Number(15, 0, 180)},
    "affine": {
        "degrees": _Number(0, 0, 180),
        "translate": _Number(0, 0, 1),
        "scale": _Range((1.0, 1.0), 0.01, 100),
        "shear": _Number(0, 0, 80),
    },
    "colour": {
        "brightness": _Number(0, 0, 10),
        "contrast": _Number(0, 0, 10),
        "saturation": _Number(0, 0, 10),
        "hue": _Number(0, 0, 0.5),
    },
    "grey": {"p": _Number(0.1, 0, 1)},
    "blur": {"p": _SHARE, "sigma": _Range((0.1, 2.0), 0.01, 50)},
    "erase": {"p": _SHARE, "scale": _Range((0.02, 0.33), 1e-4, 1), "ratio": _Range((0.3, 3.3), 0.01, 100)},
    "rand_augment": {"n": _Number(2, 1, 20, whole=True), "magnitude": _Number(9, 0, 30, whole=True)},
    "trivial_augment": {},
    "mixup": {
        "alpha": _Number(0.2, 1e-3, 100),
        "p": _Number(1, 0, 1),
        "classes": _Number(0, 0, _ANY, whole=True),
    },
    "cutmix": {
        "alpha": _Number(1, 1e-3, 100),
        "p": _Number(1, 0, 1),
        "classes": _Number(0, 0, _ANY, whole=True),
    },
}
"""Every built-in operation with its settings."""
MIXING = ("mixup", "cutmix")
"""Operations that need another sample of the batch, and mix the targets, too."""
COLOURED = ("colour", "grey", "rand_augment", "trivial_augment")
"""Operations that know what a colour is: uint8 of one channel or three."""


class AugmentStep(ConfigSection):
    """One operation of ``data.augment``; its settings stand beside ``use``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    use: str = Field(min_length=1)
    """A built-in operation, or ``package:Class``, a transform that is called with one image, as torchvision's are."""

    @property
    def is_own(self) -> bool:
        """Whether it is not built in."""
        return ":" in self.use

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, those that were left out with their defaults."""
        given = dict(self.model_extra or {})
        if self.is_own:
            return dict(given.get("args") or {})
        return {**{key: kind.default for key, kind in OPERATIONS[self.use].items()}, **given}

    @model_validator(mode="after")
    def _knows_its_settings(self) -> AugmentStep:
        given = self.model_extra or {}
        if self.is_own:
            if set(given) - {"args"} or not isinstance(given.get("args", {}), dict):
                raise ValueError(
                    f"{self.use}: its arguments stand in args, as {{use: …, args: {{size: 32}}}}"
                )
            return self
        if self.use not in OPERATIONS:
            names = f"{', '.join(OPERATIONS)}, package:Class"
            raise ValueError(f"there is no operation {self.use!r}; there are {names}")
        known = OPERATIONS[self.use]
        for key, value in given.items():
            if key not in known:
                there = f"it has {', '.join(known)}" if known else "it has none"
                raise ValueError(f"{self.use} has no setting {key!r}; {there}")
            if known[key].read(value) is None:
                raise ValueError(f"{self.use}: {key} = {value!r} is not {known[key]}")
        return self


class AugmentConfig(ConfigSection):
    """The ``data.augment:`` section: what is drawn anew for every training image in every epoch.

    ``{crop: 4, flip: true}``, or a list of steps, ``[{use: random_resized_crop, scale: [0.3, 1]}, {use: flip}]``.
    """

    crop: Annotated[int, MeasuredIn("pixels")] = Field(default=0, ge=0)
    """A random crop of the original size, after this many pixels of padding on each side; 0 is none."""
    flip: bool = False
    """Mirror every other image, left to right."""
    steps: tuple[AugmentStep, ...] = ()
    """Further operations, in their order; a list in the place of the section is this list."""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        section = {"steps": value} if isinstance(value, list | tuple) else value
        if isinstance(section, dict) and isinstance(section.get("steps"), list):
            return {
                **section,
                "steps": tuple(section["steps"]),
            }  # of JSON a strict tuple takes a list, but not here
        return section

    @model_validator(mode="after")
    def _mixes_last(self) -> Self:
        mixes = [step.use in MIXING for step in self.steps]
        if mixes != sorted(mixes):
            name = self.steps[mixes.index(True)].use
            raise ValueError(
                f"{name} mixes samples that are augmented already: put it behind the other steps"
            )
        return self

    @property
    def is_off(self) -> bool:
        """Whether nothing is changed."""
        return not (self.crop or self.flip or self.steps)


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
    share: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_or_off)] = "auto"
    """Call a user's own ``data()`` once per machine, and have all processes map what it returns: ``auto`` where they
    can, ``on`` or refuse with the reason, ``off`` calls it in each."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What a sample that cannot be read does: ``stop`` ends the run and names it; ``skip`` trains on another one in its
    place, leaves it out of evaluations, and lists it in the run folder's ``bad_samples.jsonl``. Not for shards."""
    max_bad: float = Field(default=0.01, gt=0)
    """Most samples of a split that may be skipped: a share below 1, or a number of samples from 1 on."""
    scale_uint8: bool | None = None
    """Divide uint8 inputs of a user's own data by 255; unset is no. Images of the other data sets always are."""
    pack: PackConfig | None = None
    """Packs documents into samples of one length."""
    iterable_shards: Annotated[int, MeasuredIn("shards")] = Field(default=16, gt=0)
    """Parts that a user's iterable with ``__lockstep_shard__(index, count)`` is read in, on any number of processes."""
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

    @model_validator(mode="after")
    def _packs_one_set(self) -> Self:
        if self.pack is not None and self.sets:
            raise ValueError("pack: the documents of several sets: write them into one")
        return self

    @model_validator(mode="after")
    def _skips_whole_samples(self) -> Self:
        if self.max_bad > 1 and self.max_bad != int(self.max_bad):
            raise ValueError(f"max_bad: {self.max_bad:g} is neither a share below 1 nor a whole number")
        if self.on_bad == "skip" and self.pad is not None and self.pad.to == "longest":
            raise ValueError(
                "on_bad: skip: what takes a sample's place may be longer than its batch: pad to a fixed length, pad.to"
            )
        return self

    @property
    def micro_limit(self) -> int | None:
        """The most samples of a pass; None where there is no limit, or none was found yet."""
        return None if self.max_micro_batch == "auto" else self.max_micro_batch

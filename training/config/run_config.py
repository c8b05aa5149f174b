"""What a config may say, one frozen model per section, and the spec that a run is made of.

No torch here: the command line reads this file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticKnownError

from ...data.config import ConfigSection, DataConfig, DatasetInfo, MeasuredIn
from .duration import Interval, RunLength
from .metric_direction import BUILT_IN, Direction, direction_of
from .model_config import ModelConfig
from .monitor import EarlyStopConfig, MonitorConfig
from .objective_config import IN_TURN, ONE_STEP, LossConfig, StepConfig, turn_problem
from .optimizers import OptimizerConfig, ParameterSelection
from .profile_range import LogConfig
from .schedules import ScheduleConfig
from .trackers import TrackerNames, WandbConfig
from .train_parts import CompileMode, ElasticConfig, EmaConfig, Hooks, Precision, VerifyEvery, refuse_cut

SCHEMA_VERSION = 1
"""Of ``spec.json``."""


Monitor = TypeVar("Monitor", bound=MonitorConfig)
Epochs = Annotated[int, MeasuredIn("epochs")]
Steps = Annotated[int, MeasuredIn("steps")]


class TrainConfig(ConfigSection):
    """The ``train:`` section."""

    epochs: Epochs = Field(default=5, gt=0)
    """The length of the run: how often each training sample is seen."""
    steps: Steps | None = Field(default=None, gt=0)
    """The length of the run in optimizer steps, in the place of ``epochs``; it may end within an epoch."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides all that is random: initial weights, order of samples, augmentation, dropout."""
    precision: Precision = "auto"
    """The type that the model computes in: ``bf16`` and ``fp16`` are mixed precision with fp32 weights, ``fp64`` is
    double precision throughout. ``auto`` is bf16 on a GPU that computes in it, else fp32. ``fp8`` is refused."""
    deterministic: bool = False
    """Use deterministic kernels only, and fail where torch has none."""
    max_steps: Steps | None = Field(default=None, gt=0)
    """End after this many optimizer steps, even in the middle of an epoch."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Whole parameters on every process, or ``fsdp``: a part of each, gathered block by block, for less memory."""
    logical_ranks: int | None = Field(default=None, gt=0)
    """Cut each global batch into this many parts whatever the number of processes, and add what they give in one order:
    the run is the same to the bit on 1 to this many processes."""
    elastic: ElasticConfig | None = None
    """Let ``launch scale`` change the number of processes while the run trains, without a trace in its numbers."""
    verify_every: VerifyEvery = None
    """Steps between two comparisons of weights and optimizer over ranks; ``auto`` is 100, unset or ``off`` is never."""
    unused: Literal["auto", "error", "allow"] = "auto"
    """Parameters that the loss does not reach in a step stay as they are: noted, refused, or not mentioned."""
    compile: bool | CompileMode = False
    """Compile the model's steps by ``torch.compile``, in one of its modes; ``dynamic`` makes one program for all
    shapes of batches instead of one for each."""
    metrics: bool = False
    """Log those metrics that are means of training, too, as ``train/NAME``: of what the model returned in its steps."""
    eval_every: Interval | None = None
    """``500 steps``, ``2 epochs`` or ``10 minutes`` between two evaluations; unset is every epoch. The end has one."""
    eval_batches: Annotated[int, MeasuredIn("batches")] | None = Field(default=None, gt=0)
    """Batches of the global size that an evaluation takes of each validation set at most; unset is all."""
    ema: EmaConfig | None = None
    """Evaluate and keep an exponential moving average of the weights; unset is none."""
    early_stop: EarlyStopConfig | None = None
    """End before the last epoch when a metric stops improving; unset is never."""

    @model_validator(mode="after")
    def _compares_whole_parameters(self) -> Self:
        if self.verify_every is not None and self.strategy != "ddp":
            raise ValueError(
                "train.verify_every: with train.strategy=fsdp no two ranks hold the same: leave it out"
            )
        return self

    def run_length(self, steps_per_epoch: int) -> RunLength:
        """Return how long a run with this many steps in an epoch is."""
        steps = self.steps or self.epochs * steps_per_epoch
        return RunLength(steps_per_epoch, min(steps, self.max_steps or steps))

    @model_serializer(mode="wrap")
    def _as_written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = write(self)
        document.pop("epochs" if self.steps else "steps", None)  # the one that counts
        return document


class CheckpointConfig(MonitorConfig):
    """The ``checkpoint:`` section; the end of training always writes one."""

    every_epochs: Epochs | None = Field(default=1, gt=0)
    """Epochs between two checkpoints; null: none for the end of an epoch."""
    every_steps: Steps | None = Field(default=None, gt=0)
    """Optimizer steps between two checkpoints, besides those of epochs."""
    every_minutes: Annotated[float, MeasuredIn("minutes")] | None = Field(default=None, gt=0)
    """Of wall-clock time; written at the next step after them."""
    keep_last: int | None = Field(default=3, gt=0)
    """How many of the newest checkpoints to keep; null keeps all."""
    keep_best: int = Field(default=1, ge=0)
    """How many of the best checkpoints by ``monitor`` to keep besides; each is written at the end of its epoch."""
    whole: bool = False
    """With ``train.strategy=fsdp``: gather the parts onto rank 0, which writes whole files, as with ``ddp``."""


_DIRECTIONS: dict[str, Direction] = {"lower": "min", "higher": "max"}


class MetricConfig(BaseModel, frozen=True, extra="forbid"):
    """A metric; written as its name alone where it has no other settings."""

    use: str = Field(min_length=1)
    """A built-in metric, a callable ``(output, target) -> (sum, count)`` or to statistics, or a torchmetrics metric."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the metric: those listed below for a built-in one, those of the callable for your own."""
    name: str = Field(default="", pattern=r"^[\w.@-]*$")
    """What the record calls it, after ``val/``; unset: the last part of ``use``."""
    finish: str | None = Field(default=None, min_length=1)
    """A callable that makes a number, or a dict of numbers, of the totals of the statistics; unset: the attribute
    ``finish`` of the function, else sum / count."""
    better: Literal["lower", "higher"] | None = None
    """Which way of it is better; unset: as its name says."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.name:  # frozen for everyone else
            object.__setattr__(self, "name", self._short_name)
        return self

    @property
    def _short_name(self) -> str:
        return self.use.rpartition(":")[2]

    @property
    def direction(self) -> Direction | None:
        """Which way is better, where that is set here, or known of a built-in one that has another name."""
        if self.better is None:
            return BUILT_IN.get(self.use) if self.name != self.use else None
        return _DIRECTIONS[self.better]

    def is_of(self, metric: str) -> bool:
        """Tell whether a name in the record is that of this metric, on any set, or of one of its numbers."""
        name = metric.partition("/")[2]
        return name == self.name or name.startswith(f"{self.name}/")

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        said = {
            "args": self.args,
            "name": "" if self.name == self._short_name else self.name,
            "finish": self.finish,
            "better": self.better,
        }
        said = {key: value for key, value in said.items() if value}
        return {"use": self.use, **said} if said else self.use


def _from_name(value: Any) -> Any:
    if isinstance(value, str):
        return {"use": value}
    if not isinstance(value, dict | MetricConfig | StepConfig):
        raise PydanticKnownError("string_type")
    return value


_NAMED_STEP = BeforeValidator(_from_name, json_schema_input_type=str | StepConfig)
Step = Annotated[
    Annotated[StepConfig, _NAMED_STEP, Tag(ONE_STEP)]
    | Annotated[tuple[Annotated[StepConfig, _NAMED_STEP], ...], Tag(IN_TURN), Field(min_length=1)],
    Discriminator(lambda value: IN_TURN if isinstance(value, list | tuple) else ONE_STEP),
]
"""The value of ``step:``."""
OptimizerKey = Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")]


class NamedOptimizerConfig(OptimizerConfig, ParameterSelection):
    """An entry of ``optimizers:``: the parameters that it selects, with a schedule of their own."""

    schedule: ScheduleConfig | None = None
    """The schedule of this optimizer's learning rate; unset: ``schedule:`` of the run."""


Metrics = tuple[
    Annotated[MetricConfig, BeforeValidator(_from_name, json_schema_input_type=str | MetricConfig)], ...
]
"""The value of ``metrics:``."""


class RunConfig(ConfigSection):
    """A whole config."""

    data: DataConfig = Field(default_factory=DataConfig)
    """The data set, and how its samples become batches."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    """The model that is trained, and the weights that it starts from."""
    loss: LossConfig = Field(default_factory=LossConfig)
    """What compares the model's output with the target."""
    step: Step | None = None
    """What computes the loss from the model and a batch; unset: ``loss:`` does, of the model's output. A list of steps
    is taken in turn, on the same global batch."""
    metrics: Metrics | None = None
    """What an evaluation measures besides the loss; unset: the metrics that belong to the loss."""
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    """What turns gradients into new weights."""
    optimizers: dict[OptimizerKey, NamedOptimizerConfig] | None = None
    """Several in the place of ``optimizer:``; a parameter has the first that selects it."""
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    """How the learning rate changes over the run."""
    train: TrainConfig = Field(default_factory=TrainConfig)
    """How long to train, in which precision, and when to evaluate."""
    hooks: Hooks | None = None
    """Functions of your own that are called at points of the run: a file, or each by its point."""
    log: LogConfig = Field(default_factory=LogConfig)
    """What is written down while training."""
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    """When to write checkpoints, and which to keep; the end of a run always writes one."""
    tracking: TrackerNames = ("wandb",)
    """Where a run's rows are sent: ``wandb``, ``tensorboard``, ``package.module:callable``, ``./file.py:name``."""
    wandb: WandbConfig = Field(default_factory=WandbConfig)
    """Settings of W&B, where ``tracking`` names it."""

    @model_validator(mode="after")
    def _logical_ranks_have_samples(self) -> Self:
        refuse_cut(self)
        return self

    @model_validator(mode="after")
    def _any_samples_for_a_step(self) -> Self:
        if self.step is not None and self.data.target is not None:
            raise ValueError("data.target: a step takes the batch as it is; leave one of the two out")
        if self.data.target is not None and self.data.samples == "pairs":
            raise ValueError("data.target: samples are dicts then; leave data.samples out")
        if (self.step is not None or self.data.target is not None) and self.data.samples is None:
            self.__dict__["data"] = self.data.model_copy(update={"samples": "any"})
        return self

    @model_validator(mode="after")
    def _optimizers_have_turns(self) -> Self:
        if self.optimizers is not None and self.optimizer != OptimizerConfig():
            raise ValueError("optimizer and optimizers: leave one of the two sections out")
        if (problem := turn_problem(self.steps, list(self.optimizers or ()))) is not None:
            raise ValueError(problem)
        return self

    @property
    def steps(self) -> tuple[StepConfig, ...]:
        """The steps that are taken in turn; none where a loss is trained."""
        return self.step if isinstance(self.step, tuple) else (self.step,) if self.step else ()

    def parts(self) -> dict[str, Self]:
        """Return what each optimizer sees: this config with its sections as if it were the only one.

        The name of the only one is empty.
        """
        if self.optimizers is None:
            return {"": self}
        entries = self.optimizers.items()
        return {
            name: self.model_copy(update={"optimizer": one, "schedule": one.schedule or self.schedule})
            for name, one in entries
        }

    @property
    def trained_loss(self) -> LossConfig | None:
        """The ``loss:`` section where it is what is trained; None where a step is."""
        return self.loss if self.step is None else None

    def declared_direction(self, metric: str) -> Direction | None:
        """Tell which way of a metric is better as ``metrics:`` says it; None where it does not.

        Args:
            metric: as the record names it, such as ``val/wer``.
        """
        found = (item.direction for item in self.metrics or () if item.is_of(metric))
        return next(found, None)

    def direction_of(self, metric: str) -> Direction | None:
        """Tell which way of a metric is better: as ``metrics:`` says, else as its name does."""
        return self.declared_direction(metric) or direction_of(metric)

    def with_directions(self) -> Self:
        """Return the config with ``min`` or ``max`` in the place of ``auto``, where that is known."""
        early, train = self.train.early_stop, self.train
        if early is not None:
            train = train.model_copy(update={"early_stop": self._directed(early)})
        sections: dict[str, Any] = {
            "checkpoint": self._directed(self.checkpoint),
            "train": train,
            "schedule": self._directed_schedule(self.schedule),
        }
        if self.optimizers is not None:
            sections["optimizers"] = {
                name: one.model_copy(
                    update={"schedule": one.schedule and self._directed_schedule(one.schedule)}
                )
                for name, one in self.optimizers.items()
            }
        return self.model_copy(update=sections)

    def monitors(self) -> dict[str, MonitorConfig]:
        """Return the sections that a decision is based on, by key."""
        found = {
            "checkpoint": self.checkpoint,
            "train.early_stop": self.train.early_stop,
            **{key: self.monitored_by(schedule) for key, schedule in self.schedules().items()},
        }
        return {key: section for key, section in found.items() if section is not None}

    def schedules(self) -> dict[str, ScheduleConfig]:
        """Return the schedules that optimizers have, by the key that sets it."""
        optimizers = self.optimizers or {}
        own = {f"optimizers.{name}.schedule": one.schedule for name, one in optimizers.items()}
        shared = not own or None in own.values()
        return {
            **({"schedule": self.schedule} if shared else {}),
            **{key: schedule for key, schedule in own.items() if schedule is not None},
        }

    @staticmethod
    def monitored_by(schedule: ScheduleConfig) -> MonitorConfig | None:
        """Return the metric that a rate follows; None where it follows none."""
        if schedule.use != "plateau":
            return None
        return MonitorConfig(monitor=schedule.monitor or "val/loss", mode=schedule.mode or "auto")

    def _directed_schedule(self, schedule: ScheduleConfig) -> ScheduleConfig:
        if (watched := self.monitored_by(schedule)) is None:
            return schedule
        return schedule.model_copy(update={"mode": self._directed(watched).mode})

    def _directed(self, section: Monitor) -> Monitor:
        known = self.direction_of(section.monitor)
        return (
            section if section.mode != "auto" or known is None else section.model_copy(update={"mode": known})
        )


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file that a run starts from."""

    path: str
    """Absolute."""
    sha256: str
    of: str = ""
    """The frozen model that it is of; empty for the one that is trained."""


@dataclass(frozen=True)
class RunSpec:
    """One run, independent of the number of processes that will train it."""

    run: str
    """The run's name."""
    config: RunConfig
    base: Path
    """The folder that the config's relative paths start from."""
    facts: DatasetInfo
    device: Literal["cpu", "gpu"]
    wandb_id: str
    """One for the whole run, however often it is started."""
    weights: tuple[WeightsFile, ...] = ()
    """What the model starts from; of names that are in several files, the last file's."""

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values for ``json.dumps``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "run": self.run,
            "device": self.device,
            "base": str(self.base),
            "wandb_id": self.wandb_id,
            "weights": [asdict(file) for file in self.weights],
            "config": self.config.model_dump(mode="json"),
            "data": self.facts.to_json(),
        }

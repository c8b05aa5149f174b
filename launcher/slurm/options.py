"""The ``slurm:`` section of a config: what a job asks for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer

from ...data.config import ConfigSection
from .option_types import (
    Constraint,
    ContainerMount,
    Gpus,
    Gres,
    Image,
    MailAddress,
    MailTypes,
    Memory,
    Module,
    Name,
    Names,
    NodeList,
    SbatchOptions,
    normalise_time_limit,
)
from .secrets import Line, Variable


class SlurmConfig(ConfigSection):
    """The ``slurm:`` section, and a profile of ``clusters.yaml``; what is unset is left to the site."""

    nodes: int | None = Field(default=None, ge=1, le=100_000)
    gpus: Gpus | None = None
    """Per node; ``a100:4`` names the kind."""
    cpu: int | None = Field(default=None, ge=1, le=10_000)
    """CPU processes per node, instead of GPUs."""
    time: Annotated[str, AfterValidator(normalise_time_limit)] | None = None
    """``4:00:00``, ``90min``, ``2h``, ``1-12:00:00``."""
    partition: Names | None = None
    account: Name | None = None
    qos: Name | None = None
    cpus_per_task: int | None = Field(default=None, ge=1, le=100_000)
    """CPUs of the job on each node."""
    mem: Memory | None = None
    """Per node, with its unit."""
    constraint: Constraint | None = None
    gres: Gres | None = None
    exclude: NodeList | None = None
    reservation: Names | None = None
    mail_user: MailAddress | None = None
    mail_type: MailTypes | None = None
    container: Image | None = None
    """An image that the processes run in."""
    container_mounts: tuple[ContainerMount, ...] | None = None
    container_runtime: Literal["pyxis", "apptainer"] | None = None
    modules: tuple[Module, ...] | None = None
    """Environment modules to load, in order."""
    setup: tuple[Line, ...] | None = None
    """Your own shell lines, run on the first node before the launcher starts."""
    env: tuple[Variable, ...] | None = None
    """Further environment variables that travel with the job, by name."""
    sbatch: SbatchOptions | None = None
    """Any other option of sbatch, such as ``{nice: 100, exclusive: true}``."""
    continuation: Literal["auto", "requeue", "chain", "none"] | None = None
    """How a job that was stopped goes on."""
    max_preemptions: int | None = Field(default=None, ge=0, le=100_000)
    max_crashes: int | None = Field(default=None, ge=0, le=100_000)
    max_restarts: int | None = Field(default=None, ge=0, le=100_000)
    """How often failed ranks are started again in place."""
    hang_timeout: float | None = Field(default=None, ge=0)
    """Seconds of standstill after which a hang is called; 0 never calls one."""
    grace: float | None = Field(default=None, ge=0, le=65_000)  # sbatch's --signal counts to 65535
    """Seconds between SIGTERM and SIGKILL for a script that is asked to end."""

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """A run that has nothing to do with SLURM is not described by thirty keys without a value."""
        return {key: value for key, value in handler(self).items() if value is not None}

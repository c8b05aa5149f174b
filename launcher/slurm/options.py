"""The ``slurm:`` section of a config: what a job asks for. Every option of a job is declared here, and only here."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, field_validator, model_serializer

from ...data.config import ConfigSection
from .option_declaration import declared_options, slurm_option
from .option_types import (
    Constraint,
    ContainerMount,
    Count,
    Gpus,
    GraceSeconds,
    Gres,
    Image,
    Limit,
    MailAddress,
    MailTypes,
    Memory,
    Module,
    Name,
    Names,
    NodeList,
    Processes,
    Seconds,
    TimeLimit,
    check_sbatch_value,
)
from .secrets import Line, Variable

RESERVED_BY_LAUNCHER = (
    "output", "error", "input", "open-mode", "signal", "wrap", "array", "export", "export-file", "chdir",
    "workdir", "dependency", "kill-on-invalid-dep", "requeue", "no-requeue", "ntasks", "ntasks-per-node",
    "ntasks-per-core", "ntasks-per-socket", "ntasks-per-gpu", "gpus-per-node", "gpus-per-task",
    "gpus-per-socket", "gpu-bind", "test-only", "parsable", "wait", "get-user-env", "clusters", "cluster", "quiet",
    "verbose", "version", "help", "usage", "uid", "gid", "ignore-pbs", "container", "no-kill", "overcommit",
)  # fmt: skip
"""sbatch's options that every job of the launcher depends on: they cannot be set in ``sbatch:``."""


class SlurmConfig(ConfigSection):
    """The ``slurm:`` section, and a profile of ``clusters.yaml``; what is unset is left to the site.

    sbatch gets the options in the order of their declarations.
    """

    nodes: Count | None = slurm_option(
        "N", "Number of nodes.", sbatch="nodes", is_passed_as_is=False, default=1
    )
    gpus: Gpus | None = slurm_option(
        "[KIND:]N",
        "GPUs per node, with one process on each.",
        sbatch="gpus",
        is_passed_as_is=False,
        notes="`a100:4` names the kind.",
    )
    cpu: Processes | None = slurm_option("N", "CPU processes per node, instead of GPUs.")
    time: TimeLimit | None = slurm_option(
        "TIME",
        "Time limit: 4:00:00, 90min, 2h, 1-12:00:00.",
        sbatch="time",
        notes="A bare number is minutes, as sbatch reads it, and is noted.",
    )
    partition: Names | None = slurm_option("NAMES", "Partitions, separated by commas.", sbatch="partition")
    account: Name | None = slurm_option("NAME", "Account to charge.", sbatch="account")
    qos: Name | None = slurm_option("NAME", "Quality of service.", sbatch="qos")
    cpus_per_task: Count | None = slurm_option(
        "N",
        "CPUs per node; by default the GPUs' share.",
        sbatch="cpus-per-task",
        is_passed_as_is=False,
        notes="By default with `cpu`, one for each process.",
    )
    mem: Memory | None = slurm_option("SIZE", "Memory per node: 64G; 0 for all of it.", sbatch="mem")
    constraint: Constraint | None = slurm_option(
        "FEATURES", "Features that the nodes must have.", sbatch="constraint"
    )
    gres: Gres | None = slurm_option("LIST", "Other generic resources per node.", sbatch="gres")
    exclude: NodeList | None = slurm_option("HOSTS", "Nodes to avoid: node[3,7-9].", sbatch="exclude")
    reservation: Names | None = slurm_option(
        "NAMES", "Reservations to use, separated by commas.", sbatch="reservation"
    )
    mail_user: MailAddress | None = slurm_option("ADDRESS", "Where SLURM sends mail.", sbatch="mail-user")
    mail_type: MailTypes | None = slurm_option(
        "TYPES", "Events to send mail about: END,FAIL.", sbatch="mail-type"
    )
    container: Image | None = slurm_option("IMAGE", "Container image to run the processes in.")
    container_mounts: tuple[ContainerMount, ...] | None = slurm_option(
        "/SRC:/DST", "Folder to mount in the image; repeatable.", flag="container-mount"
    )
    container_runtime: Literal["pyxis", "apptainer"] | None = slurm_option(
        "", "By default apptainer for a .sif, else pyxis."
    )
    modules: tuple[Module, ...] | None = slurm_option(
        "NAME",
        "Environment module to load; repeatable.",
        flag="module",
        notes="Loaded in this order, on the first node.",
    )
    setup: tuple[Line, ...] | None = slurm_option(
        "",
        "Your own shell lines, run after the modules.",
        flag=None,
        notes="Each is a whole command, and the first that fails ends the job.",
    )
    env: tuple[Variable, ...] | None = slurm_option("NAME", "Further variable to pass on; repeatable.")
    sbatch: dict[str, Any] | None = slurm_option(
        "OPTION[=VALUE]", "Any other option of sbatch; repeatable.", notes="`{nice: 100, exclusive: true}`"
    )
    continuation: Literal["auto", "requeue", "chain", "none"] | None = slurm_option(
        "", "How a stopped job continues.", flag="continue", default="auto"
    )
    max_preemptions: Limit | None = slurm_option("K", "Most preemptions to continue after.", default=50)
    max_crashes: Limit | None = slurm_option("K", "Most failures to continue after.", default=2)
    max_restarts: Limit | None = slurm_option(
        "K", "Most restarts of failed ranks in place.", notes="As for `launch train`."
    )
    hang_timeout: Seconds | None = slurm_option(
        "SECONDS", "Standstill that counts as a hang; 0: never.", notes="As for `launch train`."
    )
    hang_timeout_min: Seconds | None = slurm_option(
        "SECONDS", "Least standstill that counts as a hang.", notes="As for `launch train`."
    )
    stop_timeout: Seconds | None = slurm_option(
        "SECONDS", "Time for a stop with a checkpoint.", notes="As for `launch train`."
    )
    grace: GraceSeconds | None = slurm_option(
        "SECONDS", "For a script, between SIGTERM and SIGKILL.", notes="As for `launch run`."
    )

    @field_validator("sbatch")
    @classmethod
    def _other_options(cls, options: dict[str, Any] | None) -> dict[str, Any] | None:
        """Refuse what another option or the launcher sets."""
        for name, value in (options or {}).items():
            if problem := check_sbatch_option(name, cls):
                raise ValueError(f"{name[:60]!r} {problem}")
            check_sbatch_value(name, value)
        return options

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out what is unset: a run without SLURM is not described by thirty keys without a value."""
        return {key: value for key, value in handler(self).items() if value is not None}


def check_sbatch_option(name: str, section: type[SlurmConfig] = SlurmConfig) -> str:
    """Return what is wrong with a name of one of sbatch's options in ``sbatch:``; empty where nothing is.

    sbatch takes any beginning of a name for the whole, so that ``outp`` would be ``output``.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,40}", name):
        return "must be the long name of one of sbatch's options, without its dashes"
    for sbatch_name, flag in flags_by_sbatch_name(section).items():
        if sbatch_name.startswith(name):
            return f"has an option of its own: --{flag}"
    if ours := next((option for option in RESERVED_BY_LAUNCHER if option.startswith(name)), None):
        return f"would change --{ours}, which the launcher sets itself"
    return ""


def flags_by_sbatch_name(section: type[SlurmConfig] = SlurmConfig) -> dict[str, str]:
    """Return sbatch's options that have an option of the same meaning here, each with the name it has here."""
    options = declared_options(section).values()
    return {option.sbatch: option.flag for option in options if option.sbatch and option.flag} | {
        "job-name": "name"
    }

"""Which GPUs a request means: ``--gpus N``, ``all``, ``idle``, ``idle:N``, or a list of positions or UUIDs."""

from __future__ import annotations

from dataclasses import dataclass

from ...data.common import MachineError, UsageError, process_name
from ..options import LocalTask
from .machine import Machine
from .nvml import Device

_IDLE_BYTES = 100 * 2**20
"""A CUDA context alone takes more. It counts where a container hides other containers' processes."""


@dataclass(frozen=True)
class GpuCandidates:
    """The GPUs that would do for a request."""

    candidates: tuple[str, ...]
    """In order of preference."""
    count: int | None
    """How many are needed; None: all that can be had, at least one."""
    asked: str


def select_gpus(machine: Machine, gpus: str | None, cpu: int | None) -> GpuCandidates:
    """Return the GPUs that a request means; none for the processor.

    Raises:
        UsageError: the request makes no sense.
        MachineError: the machine has no such GPUs.
    """
    if gpus is not None and cpu is not None:
        raise UsageError("--gpus and --cpu exclude each other", "give one of them")
    if cpu is not None and cpu < 1:
        raise UsageError(f"--cpu {cpu}: at least one process is needed", "use --cpu 1 or more")
    if cpu is not None or (gpus is None and not machine.gpus):
        return GpuCandidates((), 0, "")
    asked = "all" if gpus is None else gpus.strip()
    if asked == "all":
        return _first_gpus(machine, len(machine.gpus) or 1, asked)
    kind, _, number = asked.partition(":")
    if asked == "idle" or (kind == "idle" and _is_number(number)):
        return _idle_gpus(machine, int(number) if number else None, asked)
    if _is_number(asked):
        return _first_gpus(machine, int(asked), asked)
    return _listed_gpus(machine, asked)


def select_gpu_of_task(machine: Machine, gpus: str | None, cpu: int | None, task: LocalTask) -> GpuCandidates:
    """Return the GPU of one of several tasks on a machine: the one at its local rank, or the only one it is shown.

    Raises:
        MachineError: the tasks are more than the GPUs.
    """
    if cpu is not None or (gpus is None and not machine.gpus):
        return GpuCandidates((), 0, "")
    seen = len(machine.gpus)
    if seen == 1 or seen >= task.count:
        return GpuCandidates((machine.gpus[0 if seen == 1 else task.rank],), 1, "1")
    raise MachineError(
        f"{task.count} tasks on this machine have {seen} GPUs between them, and each needs one of its own",
        "start as many tasks as there are GPUs, or train on the processor with --cpu 1",
    )


def _is_number(text: str) -> bool:
    """Tell whether ``int`` takes it: a superscript is a digit, too."""
    return text.isascii() and text.isdigit()


def _first_gpus(machine: Machine, count: int, asked: str) -> GpuCandidates:
    if count == 0:
        raise UsageError(
            f"--gpus {asked}: at least one GPU is needed",
            "use --cpu N, or `--gpus 0,` for the GPU numbered 0",
        )
    if count > len(machine.gpus):
        raise _too_few(machine, asked)
    return GpuCandidates(machine.gpus, count, asked)


def _too_few(machine: Machine, asked: str) -> MachineError:
    there = "no GPU" if not machine.gpus else f"{len(machine.gpus)} GPU" + "s" * (len(machine.gpus) > 1)
    return MachineError(
        f"--gpus {asked}: this machine has {there} that CUDA programs can see",
        "ask for fewer, or train on the processor with --cpu N",
    )


def _idle_gpus(machine: Machine, count: int | None, asked: str) -> GpuCandidates:
    """Choose those that nobody uses, by what the driver says."""
    _first_gpus(machine, 1 if count is None else count, asked)
    users = {gpu: describe_gpu_users(machine.device(gpu)) for gpu in machine.gpus}
    idle = tuple(gpu for gpu in machine.gpus if not users[gpu])
    if len(idle) < (count or 1):
        raise MachineError(
            f"--gpus {asked}: {len(idle) or 'none'} of {len(users)} GPUs "
            + ("is idle\n" if len(idle) <= 1 else "are idle\n")
            + "\n".join(f"GPU {gpu}: {use}" for gpu, use in users.items() if use),
            "wait for them, or name the GPUs that are to be shared, such as --gpus 0",
        )
    return GpuCandidates(idle, count, asked)


def _listed_gpus(machine: Machine, asked: str) -> GpuCandidates:
    names = [part.strip() for part in asked.split(",") if part.strip()]
    if not names or not all(_is_number(name) or name.startswith(("GPU-", "MIG-")) for name in names):
        raise UsageError(
            f"--gpus {asked}: not a number of GPUs, `all`, `idle` or a list such as 0,2 or of UUIDs",
            "use one of these",
        )
    found = tuple(_visible(machine, name, asked) for name in names)
    if len(set(found)) < len(found):
        raise UsageError(
            f"--gpus {asked}: a GPU is listed twice", "list each GPU once: one process runs on each"
        )
    return GpuCandidates(found, len(found), asked)


def _visible(machine: Machine, name: str, asked: str) -> str:
    """Find the visible GPU of this position, name or UUID, or of the UUID that begins like this."""
    if _is_number(name):
        if int(name) >= len(machine.gpus):
            raise _too_few(machine, asked)
        return machine.gpus[int(name)]
    fitting = [gpu for gpu in machine.gpus if _fits(machine, gpu, name)]
    if len(fitting) != 1:
        many = (
            f"{len(fitting)} GPUs begin with" if fitting else "no GPU that CUDA programs can see begins with"
        )
        raise MachineError(
            f"--gpus {asked}: {many} {name}",
            "`nvidia-smi -L` lists the UUIDs; CUDA_VISIBLE_DEVICES hides some",
        )
    return fitting[0]


def _fits(machine: Machine, gpu: str, name: str) -> bool:
    device = machine.device(gpu)
    return any(full.lower().startswith(name.lower()) for full in (gpu, device.uuid if device else ""))


def describe_gpu_users(device: Device | None) -> str:
    """Say who uses a GPU; empty where nobody does. What the driver does not tell counts as used."""
    if device is None or device.pids is None:
        return "the driver does not say who uses it"
    if device.pids:
        return "used by " + ", ".join(map(process_name, device.pids))
    if device.used is None:
        return "the driver does not say how much of its memory is used"
    if device.used > _IDLE_BYTES:
        return f"{device.used / 2**20:,.0f} MiB of its memory are used by processes that cannot be seen from here"
    return ""

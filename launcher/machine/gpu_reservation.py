"""The processes of a launch with their GPUs locked, or an error that says who has the GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...data.common import MachineError
from ..console import print_messages
from ..options import LocalTask
from .file_limit import make_room_for_files
from .gpu_locks import GpuLocks, lock_folder
from .gpu_selection import GpuCandidates, describe_gpu_users, select_gpu_of_task, select_gpus
from .machine import Machine, read_machine
from .placement import layout_on
from .process_layout import World

_HINT = "wait for it, take others with --gpus N or --gpus idle, or train on the processor with --cpu N"


class Reservation:
    """The processes of a launch on this node, and the locks on their GPUs."""

    def __init__(self, world: World, locks: GpuLocks | None) -> None:
        self.world = world
        self._locks = locks

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Open files: a process that inherits them holds the GPUs until it ends as well."""
        return self._locks.descriptors if self._locks else ()

    def name(self, run: str) -> None:
        """Tell others which run has the GPUs."""
        if self._locks:
            self._locks.name(run)


@contextmanager
def reserve_gpus(
    gpus: str | None,
    cpu: int | None,
    what: str = "",
    *,
    hold_locks: bool = True,
    task: LocalTask | None = None,
) -> Iterator[Reservation]:
    """Choose the processes, and lock their GPUs until the block is left or this process ends, however it ends.

    Args:
        gpus: as given to ``--gpus``.
        cpu: as given to ``--cpu``.
        what: the run's name, where it is known yet; see ``Reservation.name``.
        hold_locks: False to look only, without holding locks that could stop another launch.
        task: this one of several that were started on this machine, which has one process.

    Raises:
        UsageError: the request makes no sense.
        MachineError: there are no such GPUs, another launch has them, or there are too few open files for them.
    """
    machine = read_machine()
    wanted = select_gpus(machine, gpus, cpu) if task is None else select_gpu_of_task(machine, gpus, cpu, task)
    if not wanted.candidates:
        yield _reservation(layout_on(machine, (), cpu, task), None)
        return
    locks = GpuLocks()
    try:
        chosen = _take_or_warn(locks, machine, wanted, what if hold_locks else None)
        _tell_users(machine, chosen)
        yield _reservation(layout_on(machine, chosen, cpu, task), locks)
    finally:
        locks.release()


def _reservation(world: World, locks: GpuLocks | None) -> Reservation:
    if note := make_room_for_files(world.processes):
        print_messages([f"note: {note}"])
    return Reservation(world, locks)


def _take_or_warn(
    locks: GpuLocks, machine: Machine, wanted: GpuCandidates, what: str | None
) -> tuple[str, ...]:
    """Lock the GPUs; if locks cannot be used, as in a read-only container, warn and take the GPUs without."""
    try:
        return _take(locks, machine, wanted, what)
    except OSError as error:
        locks.release()
        reason = f"{error.filename or lock_folder()}: {error.strerror}"
        print_messages([f"warning: the GPUs cannot be locked: {reason}; another launch may take them, too"])
        return wanted.candidates[: wanted.count]


def _take(locks: GpuLocks, machine: Machine, wanted: GpuCandidates, what: str | None) -> tuple[str, ...]:
    """Lock as many as are needed, in the order of preference; without ``what`` only for this launch's turn."""
    taken: list[str] = []
    held: dict[str, str] = {}
    with locks.exclusive_choice() as ours:
        if not ours:
            raise MachineError(
                "another launch has been choosing its GPUs for 10 s",
                f"see who has {lock_folder()}/lockstep-gpus open",
            )
        for gpu in wanted.candidates:
            if len(taken) == wanted.count:
                break
            if refused := locks.take(_key(machine, gpu), what or ""):
                held[gpu] = refused
            else:
                taken.append(gpu)
        if what is None:
            locks.release()
    if len(taken) < (wanted.count or 1):
        who = "\n".join(f"GPU {gpu}: {words}" for gpu, words in held.items())
        raise MachineError(f"--gpus {wanted.asked}: not free\n{who}", _HINT)
    return tuple(taken)


def _key(machine: Machine, gpu: str) -> str:
    """Find the name under which every program on the machine knows the GPU."""
    device = machine.device(gpu)
    return device.uuid if device and device.uuid else gpu


def _tell_users(machine: Machine, gpus: tuple[str, ...]) -> None:
    """Say who else uses the GPUs: one that was not asked to be idle may be in use without a lock."""
    for gpu in gpus:
        device = machine.device(gpu)
        if device is not None and device.pids and (use := describe_gpu_users(device)):
            print_messages([f"note: GPU {gpu} is {use}, too"])

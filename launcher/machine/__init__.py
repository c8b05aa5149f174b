"""GPUs, cores and NUMA nodes, and which of them a launch gets."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .gpu_reservation import Reservation as Reservation
    from .gpu_reservation import reserve_gpus as reserve_gpus
    from .machine import Machine as Machine
    from .machine import read_machine as read_machine
    from .numa import CPUS as CPUS
    from .numa import bind_rank as bind_rank
    from .numa import format_cpus as format_cpus
    from .numa import to_variable as to_variable
    from .process_layout import World as World
else:
    __getattr__ = lazy_exports(__name__)

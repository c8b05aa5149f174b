"""The world that another program has started this command in, as its variables tell it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...data.common import UsageError

WAY_OUT = "or run this command in a world of its own with --ignore-world"
MPI_DAEMONS = ("orted", "prted", "hydra_pmi_proxy", "hydra_bstrap_proxy", "pmi_proxy")
"""Programs that mpirun has srun start."""


class ForeignWorldError(UsageError):
    """A world of another starter that cannot be taken over; the message names its variables.

    Args:
        message: what is wrong with it.
        hint: what to do, besides ``--ignore-world``.
    """

    def __init__(self, message: str, hint: str = "unset what another program has left") -> None:
        super().__init__(message, f"{hint}, {WAY_OUT}")


@dataclass(frozen=True)
class StartedWorld:
    """The tasks that a starter has started, each of them this very command, and which of them this one is."""

    starter: str
    rank: int
    size: int | None
    """Number of tasks; None where the variables do not say."""
    local_rank: int | None = None
    """Of this task among those on its machine."""
    local_size: int | None = None
    """Number of tasks on this machine."""
    node: int | None = None
    nodes: int | None = None
    """Number of machines."""
    processes: int | None = None
    """Of each task, where it is to have a certain number."""
    device: str = ""
    """``cpu`` or ``gpu``, where the starter asks for it."""
    rendezvous: str = ""
    """``HOST:PORT`` at which task 0 can be reached, and where nobody listens yet."""
    job: str = ""
    """A name that all tasks know and that no other start has."""
    variables: dict[str, str] = field(default_factory=dict)
    """What this was read from."""
    bootstraps_mpi: bool = False
    """Whether these are the daemons of an MPI starter, below which its tasks run."""

    def __post_init__(self) -> None:
        for what, number, count in (
            ("task", self.rank, self.size),
            ("local task", self.local_rank, self.local_size),
            ("node", self.node, self.nodes),
            ("local task", self.local_size, None if self.size is None else self.size + 1),
            ("node", self.nodes, None if self.size is None else self.size + 1),
        ):
            if number is not None and (number < 0 or (count is not None and number >= count)):
                raise ForeignWorldError(f"{self}: no {what} can be {number} of {count}")

    def __str__(self) -> str:
        shown = " ".join(f"{name}={value}" for name, value in self.variables.items())
        return f"{self.starter} ({shown})"

    @property
    def shares_machines(self) -> bool:
        """Whether a machine has more than one task; as far as is known, this one or another."""
        return (self.local_size or 1) > 1 or (self.size or 1) > (self.nodes or self.size or 1)

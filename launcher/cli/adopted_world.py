"""What a command does about the world that another program has started it in, before it does anything else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..worlds import Placement


def take_place(asked: Placement, *, ignore_world: bool, run: str = "") -> Placement:
    """Take over the world of mpirun, srun and others that started this command; say so once for all tasks.

    Args:
        asked: on the command line.
        ignore_world: leave that world alone.
        run: the run that is resumed, if it is named.

    Raises:
        ForeignWorldError: it contradicts itself or what was asked.
    """
    if ignore_world:
        return asked
    from ..console import print_messages
    from ..runs import runs_root
    from ..worlds import adopt

    named = Path(run).resolve().name if run else None

    def refusal_of(name: str | None) -> Path | None:
        own = name or named
        return runs_root() / f".{own}.refused" if own else None

    placed = adopt(asked, _count_gpus, refusal_of=refusal_of)
    print_messages(placed.notes)
    return placed


def _count_gpus() -> int:
    from ..machine import read_machine

    return len(read_machine().gpus)


def refuse_copies(command: str, *, ignore_world: bool) -> None:
    """Refuse a command that mpirun, srun and others have started several times, and that is one command.

    Raises:
        ForeignWorldError: they have.
    """
    if not ignore_world:
        from ..worlds import refuse_copies as refuse

        refuse(command)

"""The command of each node of ``--hosts``: the user's own, with what tells the nodes apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...data.common import UsageError
from .host_list import Host


@dataclass(frozen=True)
class UserCommand:
    """The command line that a user has typed, and what was said in it of processes.

    Args:
        arguments: after ``launch``.
        program: those at its end that are the script's, with ``launch run``.
        name: of the run, which every node is given; empty where the command names an existing run.
    """

    arguments: Sequence[str]
    program: Sequence[str]
    name: str
    gpus: str | None
    cpu: int | None


def check_counts(hosts: Sequence[Host], command: UserCommand) -> None:
    """Refuse two answers to how many processes a host gets.

    Raises:
        UsageError: there are two.
    """
    counted = [host for host in hosts if host.processes is not None]
    if counted and command.gpus is not None and not command.gpus.isdigit():
        host = counted[0]
        raise UsageError(
            f"{host.name}:{host.processes} and --gpus {command.gpus}: which GPUs does it get?",
            "leave out one of them",
        )


def node_arguments(
    command: UserCommand, hosts: Sequence[Host], node: int, rendezvous: str, *, has_gpus: bool
) -> list[str]:
    """Return the arguments of ``launch`` on one node.

    Args:
        command: the user's.
        hosts: all of them.
        node: which of them this is.
        rendezvous: where the nodes meet.
        has_gpus: whether this host has GPUs, for a host whose number of processes alone is given.
    """
    count = hosts[node].processes
    own = list(command.arguments[: len(command.arguments) - len(command.program)])
    if command.program and own[-1] == "--":
        own.pop()
    replaced = {"--hosts", "--hostfile", "--rendezvous"} | ({"--gpus", "--cpu"} if count else set())
    rest = _without(own[1:], replaced)
    if node:
        rest = _without_flag(rest, "--json")
    added = [*_processes(command, count, has_gpus=has_gpus), *_place(len(hosts), node, rendezvous)]
    if "--ignore-world" not in rest:  # the nodes are not tasks of a job that this command may be in
        added.append("--ignore-world")
    if command.name and not _has(rest, "--name"):
        added += ["--name", command.name]
    return [own[0], *added, *rest, *(["--", *command.program] if command.program else [])]


def _place(count: int, node: int, rendezvous: str) -> list[str]:
    if count == 1:
        return []
    return ["--nodes", str(count), "--node-rank", str(node), "--rendezvous", rendezvous]


def _processes(command: UserCommand, count: int | None, *, has_gpus: bool) -> list[str]:
    if count is None:
        return []
    on_gpus = command.gpus is not None or (command.cpu is None and has_gpus)
    return ["--gpus" if on_gpus else "--cpu", str(count)]


def _without(arguments: Sequence[str], options: set[str]) -> list[str]:
    """Leave out options with their values, up to a ``--``."""
    kept: list[str] = []
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if word == "--":
            return [*kept, *arguments[position:]]
        if word in options:
            position += 2
            continue
        if word.partition("=")[0] not in options:
            kept.append(word)
        position += 1
    return kept


def _without_flag(arguments: Sequence[str], flag: str) -> list[str]:
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return [*(word for word in own if word != flag), *arguments[len(own) :]]


def _has(arguments: Sequence[str], option: str) -> bool:
    return any(word.partition("=")[0] == option for word in arguments)

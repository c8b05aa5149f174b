"""What has to be true of every host before anything is started on any: the problems of all are found at once."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...data.common import LockstepError, MachineError, UsageError
from ..options import place_text
from .connection import Connection
from .host_group import HostGroup

_HELLO_SECONDS = 30.0  # a login and a Python on a slow network file system
_ANSWER_SECONDS = 20.0
_MEETING_HINT = (
    "let no firewall stand between the hosts, or name the address and port with --rendezvous HOST:PORT"
)


@dataclass(frozen=True)
class Problem:
    """The reason why a host cannot take part, and what to do about it."""

    host: str
    why: str
    hint: str
    kind: type[LockstepError] = MachineError


def refusal(problems: Sequence[Problem], hosts: int) -> LockstepError:
    """Make one error out of the problems of all hosts: a machine's, where there is one such."""
    machines = [problem for problem in problems if problem.kind is MachineError]
    kind = machines[0].kind if machines else problems[0].kind
    hint = "; ".join(dict.fromkeys(problem.hint for problem in problems))
    if len(problems) == 1:
        return kind(f"host {problems[0].host}: {problems[0].why}", hint)
    which = "none of the hosts" if len(problems) == hosts else f"{len(problems)} of {hosts} hosts"
    verb = "can" if len(problems) == hosts else "cannot"
    rows = [f"{problem.host}: {problem.why}".replace("\n", "\n  ") for problem in problems]
    return kind("\n".join([f"{which} {verb} take part", *rows]), hint)


def check_hosts(group: HostGroup, shared: Path | None, rendezvous: str) -> str:
    """See that every host can take part; return where the nodes meet, empty for a single one.

    Args:
        group: the hosts.
        shared: a folder that all of them have to see; None where they need not.
        rendezvous: where the user has said that they meet.

    Raises:
        LockstepError: some cannot take part.
    """
    hosts = len(group.connections)
    for problems in (_greetings(group), _folders(group), _shared_folder(group, shared)):
        if found := list(problems):
            raise refusal(found, hosts)
    if hosts == 1:
        return ""
    return rendezvous or _meeting_place(group)


def _greetings(group: HostGroup) -> Iterator[Problem]:
    group.wait(lambda connection: connection.hello is not None, _HELLO_SECONDS)
    version = sys.modules["lockstep"].__dict__["__version__"]
    for connection in group.connections:
        name, hello = connection.host.name, connection.hello
        if hello is None:
            yield _silence(connection)
        elif hello.get("version") != version:
            why = f"lockstep {hello.get('version')} is installed there, {version} here ({sys.executable})"
            yield Problem(name, why, "install the same version on every host")


def _silence(connection: Connection) -> Problem:
    name = connection.host.name
    try_it = "see that `ssh HOST true` works without asking anything"
    if not connection.is_over:
        return Problem(name, f"no answer within {_HELLO_SECONDS:.0f} s", try_it)
    if connection.is_unreachable:
        return Problem(name, connection.why_it_ended, try_it)
    return Problem(
        name, connection.why_it_ended, "install lockstep on every host, in the same place and version"
    )


def _folders(group: HostGroup) -> Iterator[Problem]:
    folder = str(Path.cwd())
    orders = {connection.node: {"folder": folder} for connection in group.connections}
    for connection, answer in group.ask("folder", orders, _ANSWER_SECONDS):
        if answer is None:
            yield _no_answer(connection)
        elif answer["error"]:
            why = f"{folder}, where this command runs, is not there: {answer['error']}"
            yield Problem(connection.host.name, why, "have it on every host at the same path", UsageError)


def _no_answer(connection: Connection) -> Problem:
    why = connection.why_it_ended if connection.is_over else f"no answer within {_ANSWER_SECONDS:.0f} s"
    return Problem(connection.host.name, why, "look at that machine and the network")


def _shared_folder(group: HostGroup, shared: Path | None) -> Iterator[Problem]:
    """Have node 0 lay a mark in the folder, and the others look for it."""
    if shared is None or len(group.connections) == 1:
        return
    mark = {"folder": str(shared), "word": secrets.token_hex(8)}
    for connection, answer in group.ask("put mark", {0: mark}, _ANSWER_SECONDS):
        if answer is None:
            yield _no_answer(connection)
            return
        if answer["error"]:
            why = f"{shared}: a run folder cannot be made here: {answer['error']}"
            hint = "set LOCKSTEP_RUNS to a folder that can be written"
            yield Problem(connection.host.name, why, hint, UsageError)
            return
    leader = group.connections[0].host.name
    others = {connection.node: mark for connection in group.connections[1:]}
    for connection, answer in group.ask("find mark", others, _ANSWER_SECONDS):
        if answer is None:
            yield _no_answer(connection)
        elif answer["error"]:
            why = f"does not see the run folder: {shared} is not that of {leader} ({answer['error']})"
            hint = "let LOCKSTEP_RUNS be the same shared storage on every host"
            yield Problem(connection.host.name, why, hint, UsageError)


def _meeting_place(group: HostGroup) -> str:
    """Find an address of node 0's host, and a free port, that every other host reaches."""
    word = secrets.token_hex(8)
    ((leader, answer),) = group.ask("listen", {0: {"word": word}}, _ANSWER_SECONDS)
    if answer is None:
        raise refusal([_no_answer(leader)], len(group.connections))
    places = [place_text(host, port) for host, port in answer["places"]]
    others = {c.node: {"places": answer["places"], "word": word} for c in group.connections[1:]}
    failed: dict[Connection, list[str]] = {}
    problems = []
    for connection, reply in group.ask("reach", others, _ANSWER_SECONDS):
        if reply is None:
            problems.append(_no_answer(connection))
        else:
            failed[connection] = reply["failed"]
    common = [place for number, place in enumerate(places) if not any(row[number] for row in failed.values())]
    if common and not problems:
        return common[0]
    problems += [problem for c, row in failed.items() if (problem := _out_of_reach(c, leader, places, row))]
    if not problems:  # each reaches some address, and none is reached by all
        problems = [
            Problem(c.host.name, "reaches node 0 only at " + ", ".join(_reached(places, row)), _MEETING_HINT)
            for c, row in failed.items()
        ]
    raise refusal(problems, len(group.connections))


def _reached(places: Sequence[str], failed: Sequence[str]) -> list[str]:
    return [place for place, why in zip(places, failed, strict=True) if not why]


def _out_of_reach(
    connection: Connection, leader: Connection, places: Sequence[str], failed: Sequence[str]
) -> Problem | None:
    if _reached(places, failed):
        return None
    tried = ", ".join(f"{place} ({why})" for place, why in zip(places, failed, strict=True))
    why = f"cannot reach node 0 ({leader.host.name}) at {tried or 'any address'}"
    return Problem(connection.host.name, why, _MEETING_HINT)

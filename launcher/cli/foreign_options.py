"""Options of other launchers: each is told what to say here, instead of "No such option"."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ...data.common import UsageError

_ONE_MACHINE = "nothing: one machine is the default"
_MEETING = "`--rendezvous HOST:PORT` where there are several nodes, nothing on one machine"
_UNNEEDED = "nothing: it is not needed here"
_LOGS = "nothing: every rank has its log in the run folder, and `launch logs` shows them"


def _processes(value: str) -> str:
    if value in ("gpu", "auto"):
        return "`--gpus all`"
    number = value if value.isdigit() else "N"
    return f"`--cpu {number}`" if value == "cpu" else f"`--gpus {number}` or `--cpu {number}`"


def _nodes(value: str) -> str:
    if value == "1" or value.startswith("1:"):
        return _ONE_MACHINE
    return f"`--nodes {value if value.isdigit() else 'N'}`"


_VALUED: dict[str, str | Callable[[str], str]] = {
    "nproc-per-node": _processes,
    "num-processes": _processes,
    "num-gpus": _processes,
    "np": _processes,
    "n": _processes,
    "nnodes": _nodes,
    "num-machines": _nodes,
    "num-nodes": _nodes,
    "node-rank": lambda value: f"`--node-rank {value or 'K'}`",
    "machine-rank": lambda value: f"`--node-rank {value or 'K'}`",
    "master-addr": _MEETING,
    "master-port": _MEETING,
    "main-process-ip": _MEETING,
    "main-process-port": _MEETING,
    "rdzv-endpoint": _MEETING,
    "rdzv-backend": _UNNEEDED,
    "rdzv-id": _UNNEEDED,
    "rdzv-conf": _UNNEEDED,
    "local-addr": _UNNEEDED,
    "monitor-interval": _UNNEEDED,
    "role": _UNNEEDED,
    "max-restarts": lambda value: f"`--max-restarts {value or 'K'}`",
    "start-method": "`--start fork` or `--start exec`",
    "log-dir": _LOGS,
    "redirects": _LOGS,
    "r": _LOGS,
    "tee": _LOGS,
    "t": _LOGS,
    "local-ranks-filter": "`launch logs RUN --rank K`",
}
"""Options of torchrun, ``accelerate launch``, deepspeed and mpirun that take a value; what to say instead."""
_FLAGS = {
    "standalone": _ONE_MACHINE,
    "multi-gpu": "`--gpus all`",
    "module": "`-m MODULE`",
    "no-python": "a script: `launch run` starts Python programs",
    "run-path": "the script's name alone",
}


def refuse_foreign_options(
    args: Sequence[str], own: Mapping[str, bool], is_program: Callable[[str], bool]
) -> None:
    """Refuse options that another launcher would take; say what stands for them here.

    Args:
        args: of the command.
        own: the command's own options, as ``--cpu``, each with whether it takes a value.
        is_program: tells whether the first word that is not an option starts a program, whose all that follows is.

    Raises:
        UsageError: there is such an option.
    """
    given, instead = [], []
    for option, value in options_of(args, own, is_program):
        if option not in own and (words := _instead_of(option, value, own)):
            given.append(f"{option} {value}".rstrip())
            instead.append(f"{words} in place of {option}")
    if given:
        what = f"{' '.join(given)}: not {'options' if len(given) > 1 else 'an option'} of launch"
        raise UsageError(what, "; ".join(instead))


def _instead_of(option: str, value: str, own: Mapping[str, bool]) -> str:
    """Return what to say instead of an option; empty where nothing is known of it."""
    words = _VALUED.get(_name(option)) or _FLAGS.get(_name(option)) or ""
    dashed = option.replace("_", "-")
    if not words and dashed in own:
        words = f"`{dashed}`"
    return words if isinstance(words, str) else words(value)


def _name(option: str) -> str:
    return option.lstrip("-").replace("_", "-")


def options_of(
    args: Sequence[str], own: Mapping[str, bool], is_program: Callable[[str], bool]
) -> Iterator[tuple[str, str]]:
    """Yield a command's options with their values, as far as it is known whether they have one."""
    rest = list(args)
    first = True
    while rest and rest[0] != "--":
        word = rest.pop(0)
        if not word.startswith("-") or word.startswith("-m"):
            if first and is_program(word):
                return
            first = False
            continue
        option, equals, value = word.partition("=")
        takes_value = own.get(option, _name(option) in _VALUED)
        yield option, value if equals else rest.pop(0) if takes_value and rest else ""

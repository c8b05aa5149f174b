"""``--hosts`` of ``launch train``, ``run`` and ``resume``: from what a command was asked to a request for all hosts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.common import UsageError
from .adopted_world import refuse_copies


@dataclass(frozen=True)
class HostsOptions:
    """The options that say where the nodes are, how many processes they get, and where they meet."""

    hosts: str | None
    hostfile: Path | None
    nodes: int | None
    node_rank: int | None
    rendezvous: str
    gpus: str | None
    cpu: int | None
    ignore_world: bool

    def __bool__(self) -> bool:
        """Tell whether hosts were named."""
        return self.hosts is not None or self.hostfile is not None

    def for_request(self, command: str) -> dict[str, Any]:
        """Return what a request takes over; refuse what contradicts ``--hosts``.

        Raises:
            LockstepError: the nodes are numbered by hand, or another program has started this command several times.
        """
        if self.nodes is not None or self.node_rank is not None:
            hint = "leave --nodes and --node-rank out"
            raise UsageError("--hosts and --nodes or --node-rank: the hosts are the nodes", hint)
        refuse_copies(f"{command} --hosts", ignore_world=self.ignore_world)
        places = {"hosts": self.hosts, "hostfile": self.hostfile, "rendezvous": self.rendezvous}
        return {**places, "gpus": self.gpus, "cpu": self.cpu}


def train_on_hosts(
    options: HostsOptions,
    config: tuple[str | None, list[str]],
    name: str | None,
    resume: str,
    *,
    dry_run: bool,
) -> int:
    """Train on several hosts; return the exit status.

    Args:
        options: which hosts.
        config: what to train, and the settings that override it.
        name: of the run.
        resume: as given to ``--resume``.
        dry_run: is refused.
    """
    from ..config import resolve
    from ..hosts import HostsRequest, launch_on_hosts
    from ..runs import find_run

    if dry_run:
        raise UsageError("--hosts and --dry-run: the plan is that of one machine", "leave one of them out")
    given = options.for_request("train")
    run = None if resume in ("auto", "never") else find_run(resume)
    stem = "" if run is not None and config[0] is None else resolve(*config).name
    return launch_on_hosts(
        HostsRequest(**given, arguments=sys.argv[1:], name=name, stem=stem, shared=True, run=run)
    )


def resume_on_hosts(options: HostsOptions, run: Path) -> int:
    """Resume a run on several hosts, also one of SLURM's; return the exit status."""
    from ..hosts import HostsRequest, launch_on_hosts

    given, arguments = options.for_request("resume"), [sys.argv[1], "--local", *sys.argv[2:]]
    return launch_on_hosts(
        HostsRequest(**given, arguments=arguments, name=None, stem="", shared=True, run=run)
    )


def run_on_hosts(options: HostsOptions, name: str | None, program: Sequence[str], *, debug: bool) -> int:
    """Run a script on several hosts; return the exit status."""
    from ..hosts import HostsRequest, launch_on_hosts
    from ..runs import program_stem

    if debug:
        raise UsageError("--hosts and --debug: --debug is one process, here", "leave one of them out")
    given, stem = options.for_request("run"), program_stem(list(program))
    request = HostsRequest(
        **given, arguments=sys.argv[1:], name=name, stem=stem, shared=False, program=program
    )
    return launch_on_hosts(request)

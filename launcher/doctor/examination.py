"""``launch doctor`` and ``launch train --preflight``: what is looked at, in which order, and what is printed."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence

from ...data.common import MachineError
from ..console import print_json, print_messages, print_results
from ..runs import runs_root
from . import disk, gpus, limits, network, software, tools
from .bounded import run_checks
from .finding import FAIL, PASS, Check, Finding, worst

_QUICK_SECONDS = 15.0
_TORCH_SECONDS = 65.0
_WIDTH = 80
_HEADS = {"pass": "PASS", "warn": "WARN", "fail": "FAIL"}


def quick_checks() -> list[Check]:
    """Return what is looked at before a training's first step: all but torch, its processes and other programs."""
    root = runs_root()
    looks = [
        ("software", "Python", software.python),
        ("software", "torchvision", software.torchvision),
        ("GPUs", "GPUs", gpus.gpus),
        ("limits", "shared memory", limits.shared_memory),
        ("limits", "open files", limits.open_files),
        ("limits", "processes", limits.processes),
        ("limits", "locked memory", limits.locked_memory),
        ("disk", "run folders", lambda: disk.run_folder_place(root)),
        ("network", "loopback", network.loopback),
        ("network", "interfaces", network.interfaces),
    ]
    return [Check(group, name, look, _QUICK_SECONDS) for group, name, look in looks]


def all_checks() -> list[Check]:
    """Return everything that ``launch doctor`` looks at."""
    return [
        Check("software", "torch", software.torch, _TORCH_SECONDS),
        *quick_checks(),
        Check("network", "host name", network.host_name, _QUICK_SECONDS),
        Check("services", "SLURM", tools.slurm, _QUICK_SECONDS),
        Check("services", "W&B", tools.wandb, _QUICK_SECONDS),
    ]


def examine(*, quick: bool, as_json: bool) -> int:
    """Look at this machine and print what was found; return the exit status: 3 where something fails.

    Args:
        quick: leave out what takes seconds.
        as_json: one document.
    """
    began = time.monotonic()
    rows = [
        (check, finding)
        for check, found in run_checks(quick_checks() if quick else all_checks())
        for finding in found
    ]
    verdict = worst(finding for _, finding in rows)
    if as_json:
        checks = [{"group": check.group, **finding.to_json()} for check, finding in rows]
        seconds = round(time.monotonic() - began, 3)
        print_json({"schema_version": 1, "verdict": verdict, "seconds": seconds, "checks": checks})
    else:
        print_results(_lines(rows))
    return MachineError.exit_status if verdict == FAIL else 0


def preflight() -> None:
    """Look at what costs no time before a training; warn on stderr.

    Raises:
        MachineError: something fails.
    """
    found = [finding for _, findings in run_checks(quick_checks()) for finding in findings]
    print_messages(
        f"preflight: {line}"
        for line in _finding_lines([f for f in found if f.verdict not in (PASS, FAIL)], 0)
    )
    failed = [finding for finding in found if finding.verdict == FAIL]
    if failed:
        rows = [f"{finding.name}: {finding.said}" for finding in failed]
        raise MachineError(
            "\n".join(["this machine is not fit for it (--preflight)", *rows]),
            "; ".join(dict.fromkeys(finding.fix for finding in failed if finding.fix)),
        )
    print_messages([f"preflight: {len(found)} checks, nothing fails"])


def _lines(rows: Sequence[tuple[Check, Finding]]) -> list[str]:
    lines = []
    width = max(len(finding.name) for _, finding in rows)
    for group in dict.fromkeys(check.group for check, _ in rows):
        lines.append(f"{group}:")
        lines += _finding_lines([finding for check, finding in rows if check.group == group], width)
    counts = {verdict: sum(f.verdict == verdict for _, f in rows) for verdict in _HEADS}
    return [*lines, ", ".join(f"{count} {_HEADS[verdict]}" for verdict, count in counts.items())]


def _finding_lines(findings: Sequence[Finding], width: int) -> list[str]:
    """Lay each finding out, and its fix below it."""
    lines = []
    for finding in findings:
        head = f"  {_HEADS[finding.verdict]}  {finding.name:<{width}}  "
        lines += textwrap.wrap(finding.said, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
        indent = " " * len(head)
        fix = textwrap.wrap(
            finding.fix, _WIDTH, initial_indent=f"{indent}fix: ", subsequent_indent=f"{indent}     "
        )
        lines += fix
    return lines

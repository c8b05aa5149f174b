"""Checks of Python and of torch; what needs torch is asked of a process of its own, which is thrown away."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .bounded import tool_output
from .finding import FAIL, PASS, WARN, Finding

_TORCHVISION_AHEAD = 15
_SECONDS = 60.0
_SLOW_LATENCY = {"gloo": 0.005, "nccl": 0.001}
_SLOW_BANDWIDTH = {"gloo": 0.05, "nccl": 2.0}
"""GB/s of an all-reduce within one machine; below it something is wrong, not merely slow."""


def python() -> Iterator[Finding]:
    """Look at the interpreter."""
    found = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", PASS, f"{found} at {sys.executable}", "", {"version": found})


def torchvision() -> Iterator[Finding]:
    """See that torchvision is the one that was built for this torch: its operators are lost with another."""
    try:
        torch, vision = version("torch"), version("torchvision")
    except PackageNotFoundError as error:
        yield Finding("torchvision", FAIL, f"{error.name} is not installed", "pip install lockstep-train")
        return
    needed = torchvision_for(torch)
    fits = needed is None or vision.startswith(f"{needed}.")
    said = f"{vision} with torch {torch}" + ("" if fits else f", which needs torchvision {needed}")
    fix = "" if fits else f"install the pair together: pip install torch=={torch} 'torchvision=={needed}.*'"
    yield Finding("torchvision", PASS if fits else FAIL, said, fix, {"torch": torch, "torchvision": vision})


def torchvision_for(torch: str) -> str | None:
    """Return which torchvision belongs to a torch; since torch 2.0 it is 15 minor versions ahead. None where unknown.

    Source: the table of versions in torchvision's README.
    """
    found = re.match(r"2\.(\d+)\.", torch)
    return f"0.{int(found[1]) + _TORCHVISION_AHEAD}" if found else None


def torch() -> Iterator[Finding]:
    """Ask a process with torch for its versions, its GPUs, and an all-reduce."""
    try:
        out = tool_output([sys.executable, "-P", "-m", "lockstep.training.check.machine_report"], _SECONDS)
    except TimeoutError:
        fix = "a rank would hang here, too: try `python -c 'import torch'`, then NCCL_DEBUG=INFO"
        yield Finding("torch", FAIL, f"no answer within {_SECONDS:g} s", fix)
        return
    except OSError as error:
        yield Finding("torch", FAIL, str(error), "try `python -c 'import torch'`: it has to work first")
        return
    report = json.loads((out or "").splitlines()[-1])
    yield _versions(report)
    yield from _peers(report)
    yield _all_reduce(report)


def _versions(report: dict[str, Any]) -> Finding:
    said = f"{report['torch']}, CUDA {report['cuda'] or 'none'}, NCCL {report['nccl'] or 'none'}"
    said += f", {report['gpus']} GPUs that it can use"
    values = {key: report[key] for key in ("torch", "cuda", "nccl", "gpus")}
    if report["problem"]:
        fix = "install the torch that belongs to this driver, or a newer driver: pytorch.org/get-started"
        return Finding("torch", FAIL, f"{said}: {report['problem']}", fix, values)
    return Finding("torch", PASS, said, "", values)


def _peers(report: dict[str, Any]) -> Iterator[Finding]:
    """Say which pairs of GPUs cannot read each other's memory."""
    if report["gpus"] < 2:  # noqa: PLR2004 - a pair
        return
    apart = report["without_peer_access"]
    fix = (
        "NCCL goes through the host's memory there; see `nvidia-smi topo -m`, and whether ACS or IOMMU is on"
    )
    said = (
        f"not between {', '.join(f'{one}-{other}' for one, other in apart)}" if apart else "between all GPUs"
    )
    yield Finding("P2P", WARN if apart else PASS, said, fix if apart else "", {"without": apart})


def _all_reduce(report: dict[str, Any]) -> Finding:
    found = report["all_reduce"]
    if found["problem"]:
        fix = "ranks could not talk to each other either: NCCL_DEBUG=INFO, GLOO_SOCKET_IFNAME, a firewall?"
        return Finding("all-reduce", FAIL, found["problem"], fix, found)
    backend = found["backend"]
    said = (
        f"{found['gigabytes_per_second']:.2f} GB/s and {1e6 * found['latency_seconds']:,.0f} us"
        f" on {found['processes']} processes ({backend})"
    )
    slow = found["latency_seconds"] > _SLOW_LATENCY[backend] or (
        found["gigabytes_per_second"] < _SLOW_BANDWIDTH[backend]
    )
    fix = "see what else runs here (top, nvidia-smi), and `nvidia-smi topo -m` for how GPUs are joined"
    return Finding("all-reduce", WARN if slow else PASS, said, fix if slow else "", found)

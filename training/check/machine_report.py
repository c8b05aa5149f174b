"""What torch says of this machine, for ``launch doctor``: one JSON document, the last line of stdout.

The ranks of the all-reduce are forked before anything here touches a GPU, and meet over a file.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

_MOST_PROCESSES = 4
_SECONDS = 20.0
_BYTES = {"gloo": 4 << 20, "nccl": 256 << 20}
_ROUNDS, _WARM_UP = 10, 3


def main() -> None:
    """Print the report."""
    gpus = torch.cuda.device_count()
    measured = _measured(gpus)
    report = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "nccl": _nccl_version(),
        "gpus": gpus,
        "all_reduce": measured,
        "problem": _cuda_problem(gpus),
        "without_peer_access": _without_peer_access(gpus),
    }
    sys.stdout.write(json.dumps(report) + "\n")


def _nccl_version() -> str | None:
    if not distributed.is_nccl_available():
        return None
    found = torch.cuda.nccl.version()
    return ".".join(map(str, found)) if isinstance(found, tuple) else str(found)


def _cuda_problem(gpus: int) -> str:
    """Use each GPU once; return why that failed, empty if it did not."""
    try:
        for index in range(gpus):
            torch.ones(8, device=f"cuda:{index}").sum().item()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""


def _without_peer_access(gpus: int) -> list[tuple[int, int]]:
    pairs = [(one, other) for one in range(gpus) for other in range(one + 1, gpus)]
    return [pair for pair in pairs if not torch.cuda.can_device_access_peer(*pair)]


def _measured(gpus: int) -> dict[str, Any]:
    """Measure an all-reduce of forked ranks; rank 0 writes what it has seen."""
    backend = "nccl" if gpus > 1 and distributed.is_nccl_available() else "gloo"
    size = gpus if backend == "nccl" else max(2, min(_MOST_PROCESSES, len(os.sched_getaffinity(0))))
    empty = {"backend": backend, "processes": size, "latency_seconds": None, "gigabytes_per_second": None}
    with tempfile.TemporaryDirectory() as folder:
        ranks = [_forked(rank, size, backend, Path(folder)) for rank in range(size)]
        statuses = [os.waitpid(rank, 0)[1] for rank in ranks]
        if any(statuses):
            words = sorted(path.read_text() for path in Path(folder).glob("error-*"))
            return empty | {"problem": words[0] if words else "a rank ended without a word"}
        return {**empty, **json.loads((Path(folder) / "result").read_text()), "problem": ""}


def _forked(rank: int, size: int, backend: str, folder: Path) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        found = _rank(rank, size, backend, folder)
        if rank == 0:
            (folder / "result").write_text(json.dumps(found))
        status = 0
    except Exception as error:  # noqa: BLE001 - whatever it is, the report names it
        (folder / f"error-{rank}").write_text(f"{type(error).__name__}: {str(error).splitlines()[0]}")
    finally:
        os._exit(status)


def _rank(rank: int, size: int, backend: str, folder: Path) -> dict[str, float]:
    torch.set_num_threads(1)
    distributed.init_process_group(
        backend,
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=_SECONDS),
    )
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    small = _seconds(torch.zeros(1, device=device))
    large = _seconds(torch.zeros(_BYTES[backend] // 4, device=device))
    moved = 2 * (size - 1) / size * _BYTES[backend]
    return {"latency_seconds": small, "gigabytes_per_second": moved / large / 1e9}


def _seconds(tensor: torch.Tensor) -> float:
    """Return the median time of an all-reduce."""
    taken = []
    for _ in range(_WARM_UP + _ROUNDS):
        began = time.perf_counter()
        distributed.all_reduce(tensor)
        if tensor.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return sorted(taken[_WARM_UP:])[_ROUNDS // 2]


if __name__ == "__main__":
    main()

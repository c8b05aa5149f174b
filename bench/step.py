"""Times what a step costs beside the step itself: Lockstep, Fabric, Accelerate and Lightning against a raw loop.

    python bench/step.py [--processes 1 2] [--rounds N] [--steps N] [--device cpu|cuda] [--quick] [--json]

See README.md in this folder for what the figures mean. Exit status 1: the measurement is void.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms import ALONE, PEERS, Lockstep, Workload, on_two_processes, raw
from timing import Arm, Estimate, Times, interleave, machine, median_ratio, synchroniser

from lockstep.training.rank.host_tuning import tune_cpu_and_allocator
from lockstep.training.rank.process_group import Group

FEATURES, HIDDEN, CLASSES, BATCH = 32, 64, 10, 32
GOAL_OVERHEAD = 10.0  # µs a step over the raw loop, in one process, at most
GOAL_RATIO = 1.05  # of raw DDP's time on two processes, at most
AA_TOLERANCE = 0.03  # raw against raw: as far as its interval may stay away from 1
MLP = Workload(
    f"MLP {FEATURES}-{HIDDEN}-{CLASSES}",
    f"""
def model():
    return nn.Sequential(nn.Linear({FEATURES}, {HIDDEN}), nn.ReLU(), nn.Linear({HIDDEN}, {CLASSES}))

def samples():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(32_768, {FEATURES}, generator=draw), torch.randint({CLASSES}, (32_768,), generator=draw)
""",
    BATCH,
)


def measure(group: Group, args: argparse.Namespace) -> dict[str, Any]:
    """Time blocks of steps of all arms, in an order that is the same on all ranks."""
    with tempfile.TemporaryDirectory() as folder:
        ours = Lockstep(MLP, group, Path(folder) / f"rank-{group.rank}")
        takers = {"raw": raw(MLP, group), "raw again": raw(MLP, group), "lockstep": ours.steps}
        for name, (package, make) in PEERS.items():
            if find_spec(package) and not (group.world_size > 1 and name in ALONE):
                takers[name] = make(MLP, group)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        arms = {name: Arm(lambda take=take: take(args.steps)) for name, take in takers.items()}
        wait = synchroniser(group.device)
        interleave(arms, 2, np.random.default_rng(0), wait)  # warm-up
        times = interleave(arms, args.rounds, np.random.default_rng(1), wait)
        torch.set_num_threads(threads)
    return _result(group.world_size, args.steps, times)


def _result(processes: int, steps: int, times: dict[str, Times]) -> dict[str, Any]:
    base = np.asarray(times["raw"].wall)
    control = median_ratio(times["raw"].wall, times["raw again"].wall)
    ratio = median_ratio(times["lockstep"].wall, times["raw"].wall)
    each = {name: float(np.median(arm.wall)) / steps * 1e6 for name, arm in times.items()}
    over = {name: float(np.median(np.asarray(arm.wall) - base)) / steps * 1e6 for name, arm in times.items()}
    noisy = max(control.low - 1, 1 - control.high) > AA_TOLERANCE
    met = over["lockstep"] <= GOAL_OVERHEAD if processes == 1 else ratio.value <= GOAL_RATIO
    return {
        "processes": processes,
        "rounds": len(base),
        "steps_per_round": steps,
        "microseconds_per_step": {name: round(value, 1) for name, value in each.items()},
        "overhead_microseconds": {name: round(value, 1) for name, value in over.items() if name != "raw"},
        "ratio_to_raw": {name: median_ratio(arm.wall, times["raw"].wall).to_json() for name, arm in times.items()},
        "raw_to_raw": control.to_json(),
        "goal": f"at most {GOAL_OVERHEAD} µs over raw" if processes == 1 else f"at most {GOAL_RATIO} x raw DDP",
        "goal_met": met,
        "void": f"the machine is too noisy: raw to raw is {control}" if noisy else None,
    }  # fmt: skip


def _report(document: dict[str, Any]) -> None:
    print(", ".join(f"{key} {value}" for key, value in document["machine"].items() if value is not None))
    print(f"{MLP.name}, batch {BATCH}, fused Adam, fp32, one thread for each process")
    for result in document["results"]:
        print(
            f"\n{result['processes']} process(es), {result['rounds']} rounds of {result['steps_per_round']} steps"
        )
        for name, value in result["microseconds_per_step"].items():
            ratio = Estimate(*result["ratio_to_raw"][name])
            print(
                f"  {name:11} {value:8.1f} µs  {result['overhead_microseconds'].get(name, 0):+8.1f} µs  x {ratio}"
            )
        word = f"void: {result['void']}" if result["void"] else "met" if result["goal_met"] else "missed"
        print(f"  raw / raw again {Estimate(*result['raw_to_raw'])}; goal {result['goal']}: {word}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times what a step costs beside the step itself.")
    parser.add_argument("--processes", type=int, nargs="+", choices=[1, 2], default=[1, 2])
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="of one process; two are on the CPU"
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=400, help="of each arm in a round")
    parser.add_argument("--quick", action="store_true", help="a look in half a minute")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps = min(args.rounds, 8), min(args.steps, 200)
    return args


def main() -> int:
    """Measure, report, and tell whether it can be believed."""
    warnings.simplefilter("ignore")
    args = _arguments()
    device = torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu")
    results = []
    if 1 in args.processes:
        tune_cpu_and_allocator()
        results.append(measure(Group(0, 0, 1, device), args))
    if 2 in args.processes:
        results.append(on_two_processes(measure, args))
    document = {"machine": machine(device), "results": results}
    print(json.dumps(document, indent=1)) if args.json else _report(document)
    return 1 if any(result["void"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())

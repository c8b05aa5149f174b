"""Times what logical ranks cost: against DDP with as many processes, and against plain micro-batches on one.

    python bench/bitwise.py [--rounds N] [--steps N] [--quick] [--json]

See README.md in this folder for what the figures mean. Exit status 1: the measurement is void.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms import Lockstep, Workload, on_two_processes
from timing import Arm, Estimate, interleave, machine, median_ratio, synchroniser

from lockstep.training.rank.host_tuning import tune_cpu_and_allocator
from lockstep.training.rank.process_group import Group

WIDTH, BATCH, LOGICAL = 512, 128, 8
GOALS = {1: 1.05, 2: 1.10}  # times the time of the other arm, at most
AA_TOLERANCE = 0.03
MLP = Workload(
    f"MLP {WIDTH}-{WIDTH}-{WIDTH}-10",
    f"""
def model():
    return nn.Sequential(
        nn.Linear({WIDTH}, {WIDTH}), nn.ReLU(), nn.Linear({WIDTH}, {WIDTH}), nn.ReLU(), nn.Linear({WIDTH}, 10)
    )

def samples():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(8_192, {WIDTH}, generator=draw), torch.randint(10, (8_192,), generator=draw)
""",
    BATCH,
)


def measure(group: Group, args: argparse.Namespace) -> dict[str, Any]:
    """Time blocks of steps of all arms, in an order that is the same on all ranks."""
    alone = group.world_size == 1
    plain = [f"data.max_micro_batch={BATCH // LOGICAL}"] if alone else []
    cut = f"train.logical_ranks={LOGICAL if alone else group.world_size}"
    with tempfile.TemporaryDirectory() as folder:
        ours = {
            name: Lockstep(MLP, group, Path(folder) / f"{name}-{group.rank}", *settings)
            for name, settings in {"plain": plain, "plain again": plain, "logical": [cut]}.items()
        }
        torch.set_num_threads(1)
        arms = {name: Arm(lambda take=one.steps: take(args.steps)) for name, one in ours.items()}
        wait = synchroniser(group.device)
        interleave(arms, 2, np.random.default_rng(0), wait)  # warm-up
        times = interleave(arms, args.rounds, np.random.default_rng(1), wait)
    control = median_ratio(times["plain again"].wall, times["plain"].wall)
    ratio = median_ratio(times["logical"].wall, times["plain"].wall)
    noisy = max(control.low - 1, 1 - control.high) > AA_TOLERANCE
    return {
        "processes": group.world_size,
        "rounds": args.rounds,
        "steps_per_round": args.steps,
        "milliseconds_per_step": {
            name: round(float(np.median(arm.wall)) / args.steps * 1e3, 3) for name, arm in times.items()
        },
        "logical_to_plain": ratio.to_json(),
        "plain_to_plain": control.to_json(),
        "goal": GOALS[group.world_size],
        "goal_met": ratio.value <= GOALS[group.world_size],
        "void": f"the machine is too noisy: plain to plain is {control}" if noisy else None,
    }


def _report(document: dict[str, Any]) -> None:
    print(", ".join(f"{key} {value}" for key, value in document["machine"].items() if value is not None))
    print(f"{MLP.name}, batch {BATCH}, fused Adam, fp32, one thread for each process")
    for result in document["results"]:
        alone = result["processes"] == 1
        other = f"micro-batches of {BATCH // LOGICAL}" if alone else "DDP"
        cut = LOGICAL if alone else result["processes"]
        print(
            f"\n{result['processes']} process(es): {cut} logical ranks against {other},"
            f" {result['rounds']} rounds of {result['steps_per_round']} steps"
        )
        for name, value in result["milliseconds_per_step"].items():
            print(f"  {name:11} {value:8.3f} ms")
        word = f"void: {result['void']}" if result["void"] else "met" if result["goal_met"] else "missed"
        print(
            f"  logical / plain {Estimate(*result['logical_to_plain'])}; plain / plain again"
            f" {Estimate(*result['plain_to_plain'])}; goal at most {result['goal']}: {word}"
        )


def main() -> int:
    """Measure, report, and tell whether it can be believed."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description="Times what logical ranks cost.")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=64, help="of each arm in a round")
    parser.add_argument("--quick", action="store_true", help="a look in half a minute")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps = min(args.rounds, 8), min(args.steps, 32)
    tune_cpu_and_allocator()
    results = [measure(Group(0, 0, 1, torch.device("cpu")), args), on_two_processes(measure, args)]
    document = {"machine": machine(torch.device("cpu")), "results": results}
    print(json.dumps(document, indent=1)) if args.json else _report(document)
    return 1 if any(result["void"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())

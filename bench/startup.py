"""From the command to the first all-reduce, and to the prompt, against torchrun; and who is named when a rank fails.

    python bench/startup.py                    # all parts, about ten minutes
    python bench/startup.py --part first --rounds 3 --worlds 2 4

Every round starts each launcher once, in a new random order; ratios are taken within a round, and ``launch run``
is there twice (A/A). ``bench/README.md`` says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import Arm, Times, interleave, machine, median_ratio

GOALS = {4: 0.35, 8: 0.20}
WHOLE_GOALS = {4: 0.30, 8: 0.18}
HELP_GOAL = 0.08
FIRST = """
import time
stamps = [time.time_ns()]
import torch, torch.distributed as dist
stamps.append(time.time_ns())
dist.init_process_group("gloo")
stamps.append(time.time_ns())
ones = torch.ones(1)
dist.all_reduce(ones)
stamps.append(time.time_ns())
if dist.get_rank() == 0:
    import json, os
    def started(pid):
        with open(f"/proc/{pid}/stat") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        booted = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return booted + ticks * 10**9 // os.sysconf("SC_CLK_TCK")
    stamps = [started(os.getppid()), started("self"), *stamps]
    with open(os.environ["FIRST"], "w") as file:
        json.dump({"stamps": stamps, "sum": int(ones)}, file)
dist.destroy_process_group()
"""
PHASES = (
    "until the process that starts the ranks is there",
    "until it has started rank 0",
    "until the script's first line",
    "import torch",
    "init_process_group",
    "the first all-reduce",
)
"""What lies before each of the script's stamps; the first two end at starts that the kernel counts in 1/100 s."""
WRONG = """
import sys, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
ones = torch.ones(1)
dist.all_reduce(ones)
try:
    if dist.get_rank() == 1:
        raise ValueError("the culprit")
    while True:
        dist.all_reduce(ones)
finally:
    if dist.get_rank() == 1:
        dist.destroy_process_group()
        time.sleep(0.6)
"""


def launch(world: int, script: Path) -> list[str]:
    """``launch run`` as installed beside this interpreter."""
    return [str(Path(sys.executable).with_name("launch")), "run", "--cpu", str(world), str(script)]


def torchrun(world: int, script: Path) -> list[str]:
    """Torchrun on a port that it chooses itself."""
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={world}",
        str(script),
    ]


def accelerate(world: int, script: Path) -> list[str]:
    """With ``--cpu`` it would run one process whatever is asked for; without a GPU this comes to the same."""
    options = ["--multi_gpu", "--num_machines=1", f"--num_processes={world}", "--mixed_precision=no"]
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    return [*command, *options, "--main_process_port=0", str(script)]


class Bench:
    """Runs commands in a folder of its own, without a GPU in sight."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "LOCKSTEP_RUNS": str(folder / "runs")}
        for name, text in (("first.py", FIRST), ("wrong.py", WRONG)):
            (folder / name).write_text(text)

    def first(
        self, command: Callable[[int, Path], list[str]], world: int, phases: list[np.ndarray[Any, Any]]
    ) -> Arm:
        """An arm that notes the seconds of each phase from exec to the first all-reduce."""

        def run() -> None:
            stamp = self._folder / "stamp"
            stamp.unlink(missing_ok=True)
            began = time.time_ns()
            done = self.call(command(world, self._folder / "first.py"), FIRST=str(stamp))
            if done.returncode:
                sys.exit(f"{done.args} failed:\n{done.stderr}")
            found = json.loads(stamp.read_text())
            if found["sum"] != world:
                sys.exit(f"{done.args} ran {found['sum']} processes, not {world}")
            phases.append(np.diff([began, *found["stamps"]]) / 1e9)

        return Arm(run)

    def call(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        env = {**self._environment, **environment}
        return subprocess.run(
            command, env=env, cwd=self._folder, capture_output=True, text=True, timeout=300, check=False
        )

    def culprit(self, command: Callable[[int, Path], list[str]], pattern: str) -> int | None:
        """The rank that a launcher's last words name."""
        found = re.findall(pattern, self.call(command(3, self._folder / "wrong.py")).stderr)
        return int(found[-1]) if found else None


def main() -> int:
    """Measure what was asked for, print it, and say whether the goals were met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("first", "whole", "help", "culprits"), help="only this one")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--culprits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(torch.device("cpu"))}
    with tempfile.TemporaryDirectory() as folder:
        report |= measure(Bench(Path(folder)), arguments)
    print(json.dumps(report, indent=1) if arguments.json else text(report))
    return 0


def measure(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    """The parts that were asked for."""
    rng = np.random.default_rng(arguments.seed)
    rounds = arguments.rounds
    parts: dict[str, Callable[[], Any]] = {
        "first": lambda: {str(world): startup(bench, world, rounds, rng) for world in arguments.worlds},
        "whole": lambda: {str(world): whole(bench, world, rounds, rng) for world in arguments.worlds},
        "help": lambda: helps(bench, rounds, rng),
        "culprits": lambda: culprits(bench, arguments.culprits),
    }
    return {name: part() for name, part in parts.items() if arguments.part in (None, name)}


def startup(bench: Bench, world: int, rounds: int, rng: np.random.Generator) -> dict[str, object]:
    """Seconds to the first all-reduce, their ratios, and where they go."""
    commands = {"launch": launch, "launch again": launch, "torchrun": torchrun, "accelerate": accelerate}
    phases: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in commands}
    interleave({n: bench.first(c, world, phases[n]) for n, c in commands.items()}, rounds, rng)
    seconds = {name: [float(round_.sum()) for round_ in found] for name, found in phases.items()}
    ratios = {
        "launch / torchrun": median_ratio(seconds["launch"], seconds["torchrun"]).to_json(),
        "launch / accelerate": median_ratio(seconds["launch"], seconds["accelerate"]).to_json(),
        "A/A": median_ratio(seconds["launch"], seconds["launch again"]).to_json(),
    }
    return {
        "seconds": {n: round(float(np.median(s)), 3) for n, s in seconds.items()},
        "ratios": ratios,
        "phases": {n: np.median(found, axis=0).round(3).tolist() for n, found in phases.items()},
        "goal": GOALS.get(world),
    }


def whole(bench: Bench, world: int, rounds: int, rng: np.random.Generator) -> dict[str, object]:
    """Seconds from exec to the prompt of a program that all-reduces once, and their ratio."""
    commands = {"launch": launch, "launch again": launch, "torchrun": torchrun}
    arms = {name: bench.first(command, world, []) for name, command in commands.items()}
    wall = {name: times.wall for name, times in interleave(arms, rounds, rng).items()}
    return {
        "seconds": {name: round(float(np.median(seconds)), 3) for name, seconds in wall.items()},
        "launch / torchrun": median_ratio(wall["launch"], wall["torchrun"]).to_json(),
        "A/A": median_ratio(wall["launch"], wall["launch again"]).to_json(),
        "goal": WHOLE_GOALS.get(world),
    }


def helps(bench: Bench, rounds: int, rng: np.random.Generator) -> dict[str, object]:
    """``--help`` of either."""
    commands = {
        "launch": [launch(1, Path())[0], "--help"],
        "launch again": [launch(1, Path())[0], "--help"],
        "torchrun": [sys.executable, "-m", "torch.distributed.run", "--help"],
    }
    arms = {name: Arm(lambda command=command: bench.call(command)) for name, command in commands.items()}  # type: ignore[misc]
    times: dict[str, Times] = interleave(arms, rounds, rng)
    return {
        "seconds": {name: round(float(np.median(t.wall)), 3) for name, t in times.items()},
        "launch / torchrun": median_ratio(times["launch"].wall, times["torchrun"].wall).to_json(),
        "A/A": median_ratio(times["launch"].wall, times["launch again"].wall).to_json(),
        "goal": HELP_GOAL,
    }


def culprits(bench: Bench, times: int) -> dict[str, object]:
    """Whom each names when rank 1 raises, leaves its group, and ends 0.6 s after its victims."""
    arms = {
        "launch": (launch, r"error: rank (\d+) of"),
        "torchrun": (torchrun, r"Root Cause[^$]*?rank\s*:\s*(\d+)"),
    }
    named: dict[str, list[int | None]] = {name: [] for name in arms}
    for _ in range(times):
        for name, (command, pattern) in arms.items():
            named[name].append(bench.culprit(command, pattern))
    return {name: {"right": ranks.count(1), "of": times, "named": ranks} for name, ranks in named.items()}


def by_phase(phases: dict[str, list[float]]) -> list[tuple[Any, ...]]:
    """Each phase with its seconds, a column for each launcher."""
    return [("in seconds: " + ", ".join(phases),), *zip(PHASES, *phases.values(), strict=True)]


def text(report: dict[str, Any]) -> str:
    """The report as text: one finding a line."""
    lines = [json.dumps(report["machine"])]
    for world, part in report.get("first", {}).items():
        lines.append(f"{world} processes: {part['seconds']}  {part['ratios']}  goal {part['goal']}")
        lines += [
            f"{' '.join(f'{s:8.3f}' for s in row)}  {phase}" for phase, *row in by_phase(part["phases"])
        ]
    lines += [f"whole command, {world} processes: {part}" for world, part in report.get("whole", {}).items()]
    if "help" in report:
        lines.append(f"--help: {report['help']}")
    for name, found in report.get("culprits", {}).items():
        lines.append(f"culprit named by {name}: {found['right']} of {found['of']}: {found['named']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

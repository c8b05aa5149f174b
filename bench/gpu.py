"""Times whole training steps on one GPU: Lockstep, eager and compiled, the step by hand, Accelerate and Lightning.

    python bench/gpu.py [--minutes 8] [--models NAME ...] [--device cuda|cpu] [--tiny] [--json]

One command of at most eight minutes; ``--device cpu --tiny`` tries the program itself on a processor. See README.md in
this folder for what the figures mean.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms import PEERS, Lockstep, Steps, Workload, raw
from timing import Arm, Estimate, interleave, machine, median_ratio, synchroniser
from torch.utils.flop_counter import FlopCounterMode

from lockstep.training.rank.host_tuning import tune_cpu_and_allocator
from lockstep.training.rank.process_group import Group

ROUND_SECONDS = 0.25
ROUNDS = 10
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations a second, of the makers' data sheets."""

_SAMPLES = """
def samples():
    draw = torch.Generator().manual_seed(0)
    return {inputs}, torch.randint({classes}, {targets}, generator=draw)
"""


def _images(code: str, count: int, shape: tuple[int, ...], classes: int) -> str:
    return code + _SAMPLES.format(
        inputs=f"torch.randn({(count, *shape)}, generator=draw)", classes=classes, targets=f"({count},)"
    )


def _transformer(rows: int, *, tiny: bool) -> str:
    width, layers, length, words = (16, 1, 16, 64) if tiny else (512, 6, 256, 8192)
    transformer = f"""
class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding({words}, {width}), nn.Embedding({length}, {width})
        layer = nn.TransformerEncoderLayer({width}, max(1, {width} // 64), 4 * {width}, 0.0, batch_first=True,
                                           norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, {layers}, enable_nested_tensor=False)
        self.head = nn.Linear({width}, {words}, bias=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask({length}))

    def forward(self, x):
        h = self.tokens(x) + self.places.weight
        return self.head(self.blocks(h, mask=self.mask, is_causal=True)).transpose(1, 2)

def model():
    return Transformer()
"""
    return transformer + _SAMPLES.format(
        inputs=f"torch.randint({words}, ({rows}, {length}), generator=draw)",
        classes=words,
        targets=f"({rows}, {length})",
    )


def workloads(*, tiny: bool) -> list[Workload]:
    """Make the four trainings; tiny ones have the same layers with a few channels."""
    wide, batches = (4, 2) if tiny else (64, 8)
    mnist = f"""
def model():
    return nn.Sequential(
        nn.Conv2d(1, {wide // 2}, 3), nn.ReLU(), nn.Conv2d({wide // 2}, {wide}, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear({wide} * 144, 2 * {wide}), nn.ReLU(), nn.Linear(2 * {wide}, 10))
"""
    cifar = f"""
def block(into, out):
    return nn.Sequential(nn.Conv2d(into, out, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(out),
                         nn.GELU(), nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.GELU())

def model():
    whitening = nn.Conv2d(3, 24, 2)
    blocks = [block(24, {wide}), block({wide}, 4 * {wide}), block(4 * {wide}, 4 * {wide})]
    head = nn.Linear(4 * {wide}, 10, bias=False)
    return nn.Sequential(whitening, nn.GELU(), *blocks, nn.MaxPool2d(3), nn.Flatten(), head)
"""
    resnet = """
def model():
    from torchvision.models import resnet50
    return resnet50()
"""
    sizes = (8, 8, 4, 4) if tiny else (256, 1024, 256, 32)
    side = 32 if tiny else 224
    rows = [size * batches for size in sizes]
    return [
        Workload("mnist cnn", _images(mnist, rows[0], (1, 28, 28), 10), sizes[0], "bf16"),
        Workload("cifar-10", _images(cifar, rows[1], (3, 32, 32), 10), sizes[1], "bf16"),
        Workload("resnet-50", _images(resnet, rows[2], (3, side, side), 1000), sizes[2], "bf16"),
        Workload("transformer", _transformer(rows[3], tiny=tiny), sizes[3], "bf16"),
    ]


# --- the measurement


class Resident:
    """The least that a step is: one batch that never changes, by hand, eager, compiled or as a CUDA graph."""

    def __init__(self, workload: Workload, group: Group, mode: str | None) -> None:
        first = workload.batches(group)[:1]
        only = _OneBatch(workload, first)
        self.steps = raw(only, group, mode)


class _OneBatch:
    """A workload of which only the first batch is there."""

    def __init__(self, workload: Workload, first: list[Any]) -> None:
        self.precision, self.model, self.autocast = workload.precision, workload.model, workload.autocast
        self._first = first

    def batches(self, _: Group) -> list[Any]:
        return self._first


def makers(workload: Workload, group: Group, folder: Path) -> dict[str, Callable[[], Steps]]:
    """Name the arms, and what makes each."""
    graphs = {"graph": "reduce-overhead"} if group.device.type == "cuda" else {}
    found: dict[str, Callable[[], Steps]] = {
        "resident": lambda: Resident(workload, group, None).steps,
        "resident again": lambda: Resident(workload, group, None).steps,
        "resident compiled": lambda: Resident(workload, group, "default").steps,
        **{
            f"resident {name}": lambda mode=mode: Resident(workload, group, mode).steps
            for name, mode in graphs.items()
        },
        "lockstep": lambda: Lockstep(workload, group, folder / "eager").steps,
        "lockstep compiled": lambda: (
            Lockstep(workload, group, folder / "compiled", "train.compile=true").steps
        ),
    }
    for name, (package, make) in PEERS.items():
        if find_spec(package):
            found[name] = lambda make=make: make(workload, group)
    return found


def flops_of(workload: Workload, group: Group) -> float:
    """Count the operations of a step: those of the forward pass three times."""
    model, (x, _) = workload.model(group), workload.batches(group)[0]
    with FlopCounterMode(display=False) as counter, workload.autocast(group), torch.no_grad():
        model(x)
    return 3.0 * counter.get_total_flops()


def measure(workload: Workload, group: Group, seconds: float, *, rounds: int) -> dict[str, Any]:
    """Time blocks of steps of all arms in turn; an arm that cannot run says why."""
    wait = synchroniser(group.device)
    arms: dict[str, Arm] = {}
    failed: dict[str, str] = {}
    setup: dict[str, float] = {}
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in makers(workload, group, Path(folder)).items():
            began = time.perf_counter()
            try:
                take = make()
                take(3)
                wait()
            except Exception as error:  # noqa: BLE001 - the others are still worth measuring
                failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                continue
            setup[name] = round(time.perf_counter() - began, 1)
            count = _steps_in(take, wait)
            arms[name] = Arm(lambda take=take, count=count: take(count))
            arms[name].run()
            counts[name] = count
        rounds = max(3, min(rounds, int(seconds / max(1, len(arms)) / ROUND_SECONDS)))
        times = interleave(arms, rounds, np.random.default_rng(0), wait)
    each = {name: [wall / counts[name] for wall in found.wall] for name, found in times.items()}
    flops = flops_of(workload, group)
    peak = next((value for key, value in PEAKS.items() if key in _gpu(group)), None)
    ideal = each["resident"]
    used = (
        {n: round(flops / float(np.median(found)) / peak, 3) for n, found in each.items()} if peak else None
    )
    return {
        "model": workload.name,
        "batch": workload.batch,
        "precision": workload.precision,
        "rounds": rounds,
        "gigaflops_per_step": round(flops / 1e9, 2),
        "setup_seconds": setup,
        "milliseconds": {name: round(float(np.median(found)) * 1e3, 3) for name, found in each.items()},
        "samples_per_second": {n: round(workload.batch / float(np.median(found))) for n, found in each.items()},
        "flop_utilisation": used,
        "speed_to_resident": {name: median_ratio(ideal, found).to_json() for name, found in each.items()},
        "failed": failed,
    }  # fmt: skip


def _gpu(group: Group) -> str:
    return torch.cuda.get_device_name(group.device) if group.device.type == "cuda" else ""


def _steps_in(take: Steps, wait: Callable[[], None]) -> int:
    """Return how many steps take about ROUND_SECONDS."""
    wait()
    began = time.perf_counter()
    take(3)
    wait()
    return max(3, min(2000, int(3 * ROUND_SECONDS / (time.perf_counter() - began))))


def _report(document: dict[str, Any]) -> None:
    print(", ".join(f"{key} {value}" for key, value in document["machine"].items() if value is not None))
    for result in document["results"]:
        print(
            f"\n{result['model']}: batch {result['batch']}, {result['precision']}, {result['gigaflops_per_step']} GFLOP"
            f" a step, {result['rounds']} rounds"
        )
        for name, milliseconds in result["milliseconds"].items():
            used = f"  {result['flop_utilisation'][name]:.1%} of peak" if result["flop_utilisation"] else ""
            speed = Estimate(*result["speed_to_resident"][name])
            rate = result["samples_per_second"][name]
            print(f"  {name:18} {milliseconds:9.3f} ms {rate:10,} samples/s  speed {speed}{used}")
        for name, why in result["failed"].items():
            print(f"  {name:18} did not run: {why}")
    print(f"\n{document['seconds']:.0f} s in all")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times whole training steps on one GPU.")
    parser.add_argument("--minutes", type=float, default=8.0, help="at most, in all")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="those whose names begin so; default all")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--tiny", action="store_true", help="a few channels: a look at the program itself")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> int:
    """Measure each model within its share of the time that is left; report what was measured."""
    warnings.simplefilter("ignore")
    args = _arguments()
    began = time.monotonic()
    device = torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu")
    if args.device == "cuda" and not torch.cuda.is_available():
        print("there is no GPU here: --device cpu --tiny looks at the program itself", file=sys.stderr)
        return 2
    tune_cpu_and_allocator()
    chosen = [
        w for w in workloads(tiny=args.tiny) if not args.models or w.name.startswith(tuple(args.models))
    ]
    results = []
    for number, workload in enumerate(chosen):
        left = 60 * args.minutes - (time.monotonic() - began)
        if left < 20:  # what a model needs to be compiled
            print(f"note: no time is left for {workload.name}", file=sys.stderr)
            break
        share = left / (len(chosen) - number)
        results.append(measure(workload, Group(0, 0, 1, device), share / 3, rounds=args.rounds))
        torch._dynamo.reset()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    document = {"machine": machine(device), "results": results, "seconds": round(time.monotonic() - began, 1)}
    print(json.dumps(document, indent=1)) if args.json else _report(document)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Times Lockstep on MNIST against the classic tutorial's loop and against the step that nothing can beat.

    python bench/mnist.py [--data FOLDER] [--device cpu|cuda] [--part epochs|step|both] [--rounds N] [--quick] [--json]

See README.md in this folder for what the figures mean. Exit status 1: the measurement is void.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import (
    Arm,
    Estimate,
    Times,
    interleave,
    limited,
    machine,
    median_ratio,
    synchroniser,
    total_ratio,
)
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from lockstep.data.cache.array_cache import load_array
from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.data.loading.feed import StepBatch
from lockstep.data.order.sample_order import EpochOrder
from lockstep.data.prepare import prepare
from lockstep.data.sources.torchvision_sets import TORCHVISION_SETS, data_root
from lockstep.launcher.config.resolution import resolve
from lockstep.training.config.run_config import RunConfig, RunSpec
from lockstep.training.loop.train_loop import TrainLoop
from lockstep.training.losses.losses import cross_entropy
from lockstep.training.losses.objective import LossObjective
from lockstep.training.optim.update import Update
from lockstep.training.rank.host_tuning import tune_cpu_and_allocator
from lockstep.training.rank.process_group import Group
from lockstep.training.session.build import build_session, build_training
from lockstep.training.session.train_step import TrainStep
from lockstep.training.tracking.event_log import EventLog

BATCH, LEARNING_RATE, EPOCHS = 32, 1e-3, 5
GOAL_EPOCHS = 0.35  # of the tutorial's time, at most
GOAL_STEP = 0.85  # of the ideal step's speed, at least
AA_TOLERANCE = 0.03  # ideal against ideal: as far as its interval may stay away from 1
AA_WIDTH = 0.2  # and as wide as that interval may be
ACCURACY_TOLERANCE = 0.005
ROUND_SECONDS = 0.2


# --- the data


@dataclass(frozen=True)
class Data:
    """The same data set for both arms."""

    config: RunConfig
    facts: DatasetInfo
    images: Dataset[Any]
    """As the tutorial has it: (tensor 0..1, label), from a Pillow image on each access."""


class DigitImages(Dataset[Any]):
    """The embedded digits, read the way torchvision's MNIST reads its own."""

    def __init__(self, facts: DatasetInfo, transform: Callable[[Any], torch.Tensor]) -> None:
        self.data = torch.from_numpy(np.array(load_array(facts.train.files["x"])))[:, 0]
        self.targets = torch.from_numpy(np.array(load_array(facts.train.files["y"])))
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.data[row].numpy())), int(self.targets[row])


def open_data(folder: str | None) -> Data:
    """MNIST where its files are, else the embedded digits in the same shape: 50,000 and 10,000."""
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    overrides = ["train.precision=fp32", "wandb.mode=disabled"] + ([f"data.root={folder}"] if folder else [])
    config = resolve("mnist", overrides).config
    root, _ = data_root(config.data, Path.cwd())
    if all((root / name).is_file() for name in TORCHVISION_SETS["mnist"].files):
        return Data(config, prepare(config.data, Path.cwd()), MNIST(str(root), transform=ToTensor()))
    print(f"note: MNIST is not in {root}; the embedded digits are measured instead", file=sys.stderr)
    config = resolve("mnist", [*overrides, "data.use=digits", "data.val_size=10000"]).config
    facts = prepare(config.data, Path.cwd())
    return Data(config, facts, DigitImages(facts, ToTensor()))


class SameOrder(Sampler[int]):
    """Our order of samples for the tutorial's loader, so that both arms end with the same model."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        yield from EpochOrder(self.n, self.seed, self.epoch).indices(0, self.n).tolist()
        self.epoch += 1


# --- the arms


class Tutorial:
    """The classic beginner's loop, in one process."""

    def __init__(self, data: Data, device: torch.device, seed: int) -> None:
        train, val = (Subset(data.images, _rows(split)) for split in (data.facts.train, data.facts.val))
        self.train_loader = DataLoader(train, batch_size=BATCH, sampler=SameOrder(len(train), seed))
        self.val_loader = DataLoader(val, batch_size=BATCH)
        self.device = device
        self.model = _mlp().to(device)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.accuracy = 0.0

    def epoch(self) -> None:
        """Training with gradients, evaluation without, one line printed."""
        self.model.train()
        train_loss = 0.0
        for x, y in self.train_loader:
            inputs, labels = x.to(self.device), y.to(self.device)
            loss = self.loss(self.model(inputs), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            train_loss += loss.item()
        val_loss, self.accuracy = self.evaluate()
        train_loss /= len(self.train_loader)
        print(f"tutorial: {train_loss:.4f} {val_loss:.4f} {self.accuracy:.2%}", file=sys.stderr)

    def evaluate(self) -> tuple[float, float]:
        """Loss and accuracy on the validation samples."""
        self.model.eval()
        total, correct = 0.0, 0
        with torch.no_grad():
            for x, y in self.val_loader:
                inputs, labels = x.to(self.device), y.to(self.device)
                output = self.model(inputs)
                total += self.loss(output, labels).item()
                correct += (output.argmax(1) == labels).sum().item()
        return total / len(self.val_loader), correct / len(self.val_loader.dataset)  # type: ignore[arg-type]


class Ours:
    """A rank as the worker builds it, driven in this process."""

    def __init__(self, data: Data, device: torch.device, seed: int, folder: Path) -> None:
        train = data.config.train.model_copy(update={"seed": seed})
        config = data.config.model_copy(update={"train": train})
        kind = "gpu" if device.type == "cuda" else "cpu"
        spec = RunSpec("bench", config, Path.cwd(), data.facts, kind, "")
        self.session = build_session(spec, Group(0, 0, 1, device))
        self.training = build_training(self.session)
        self.threads = torch.get_num_threads()  # Lockstep takes one where a step is too small to be shared
        folder.mkdir()
        self.loop = TrainLoop(self.training, folder, EventLog(folder / "metrics.jsonl"))
        self.reset = remembered(self.session.model, self.training.optimizers[""])

    @property
    def accuracy(self) -> float:
        """On the validation samples, after the last epoch."""
        return self.loop.progress.metrics["val/accuracy"]

    def epoch(self) -> None:
        """Training, evaluation, record and checkpoint."""
        self.loop._run_epoch()
        values = self.loop.progress.metrics
        print(
            f"lockstep: {values['train/loss']:.4f} {values['val/loss']:.4f} {self.accuracy:.2%}",
            file=sys.stderr,
        )

    def steps(self, count: int) -> None:
        """``count`` steps of the real loop: order, feed, seeds, schedule, step, ledger, meter and record."""
        self.training.steps = self.loop.progress.step + count
        self.loop._train_epoch()

    def make_room(self, count: int) -> None:
        """Turn to the next epoch where this one has fewer than ``count`` steps left, after five to the start."""
        progress = self.loop.progress
        if progress.epoch_step + count > self.session.batches.steps:
            progress.epoch += 1
            progress.epoch_step = self.loop._audited_step = 0
        if progress.epoch == EPOCHS:
            progress.epoch = 0
            self.reset()

    def batch(self) -> StepBatch:
        """The first batch of epoch 0."""
        return next(iter(self.session.train_feed.fetch(islice(self.session.train_work(0, 0), 1))))


def _rows(split: SplitInfo | None) -> list[int]:
    return load_array(split.subset).tolist()


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def remembered(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Brings the model back to what it is now, and the optimizer to its start."""
    kept = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]

    def reset() -> None:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
            for state in optimizer.state.values():
                for value in state.values():
                    value.zero_()

    return reset


class Fixed:
    """A model of its own that sees one resident batch again and again: no input, no records.

    It is brought back to its start before each round: many thousands of steps on the same 32 samples would end
    in gradients of zero and in denormal numbers, which are another arithmetic.
    """

    def __init__(self, ours: Ours) -> None:
        self.fetched = ours.batch()
        self.model = _mlp().to(ours.session.group.device)
        self.model.load_state_dict(ours.session.model.state_dict())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, fused=True)
        self.stepper = TrainStep(
            self.model, LossObjective(cross_entropy), Update(self.optimizer), ours.session.group, None
        )
        self.reset = remembered(self.model, self.optimizer)

    def ideal(self, count: int) -> None:
        """The least that a training step is, by hand."""
        model, optimizer = self.model, self.optimizer
        x, y = self.fetched.micro[0]
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    def stepped(self, count: int) -> None:
        """Our step: losses per sample, checked, and the gradient as their sum over the global weight."""
        for _ in range(count):
            self.stepper.run(self.fetched, BATCH, BATCH)


# --- the measurements


def measure_epochs(data: Data, device: torch.device, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Five epochs each, the tutorial's and ours in random order epoch by epoch, for each number of threads."""
    return [_compare(data, device, threads, args) for threads in thread_counts(args)]


def _compare(data: Data, device: torch.device, threads: int, args: argparse.Namespace) -> dict[str, Any]:
    epochs, rng = 2 if args.quick else EPOCHS, np.random.default_rng(threads)
    both: dict[str, list[float]] = {"tutorial": [], "lockstep": []}
    accuracies = []
    for seed in range(1 if args.quick else args.trainings):
        with limited(threads), tempfile.TemporaryDirectory() as folder:
            tutorial, ours = Tutorial(data, device, seed), Ours(data, device, seed, Path(folder) / "run")
            tutorial.model.load_state_dict(ours.session.model.state_dict())
            arms = {
                "tutorial": Arm(tutorial.epoch, lambda: torch.set_num_threads(threads)),
                "lockstep": Arm(ours.epoch, lambda own=ours.threads: torch.set_num_threads(own)),
            }
            for name, times in interleave(arms, epochs, rng, synchroniser(device)).items():
                both[name] += times.wall
        accuracies.append((tutorial.accuracy, ours.accuracy))
    apart = abs(float(np.mean([theirs - mine for theirs, mine in accuracies])))
    ratio = total_ratio(both["lockstep"], both["tutorial"])
    return {
        "threads": {"tutorial": threads, "lockstep": ours.threads},
        "epochs": len(both["tutorial"]),
        "seconds_per_epoch": {name: round(float(np.mean(wall)), 3) for name, wall in both.items()},
        "ratio": ratio.to_json(),
        "goal": GOAL_EPOCHS,
        "goal_met": ratio.value <= GOAL_EPOCHS,
        "accuracy": [{"tutorial": theirs, "lockstep": mine} for theirs, mine in accuracies],
        "void": None
        if args.quick or apart <= ACCURACY_TOLERANCE
        else f"mean accuracies differ by {apart:.2%}",
    }


def measure_step(data: Data, device: torch.device, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Blocks of the real loop's steps against blocks of the ideal step, all with the threads that Lockstep takes."""
    with limited(torch.get_num_threads()), tempfile.TemporaryDirectory() as folder:
        ours = Ours(data, device, 0, Path(folder) / "run")
        fixed, again = Fixed(ours), Fixed(ours)
        count = steps_per_round(fixed, ours, device)
        arms = step_arms(ours, fixed, again, count)
        interleave(arms, 2, np.random.default_rng(0), synchroniser(device))  # warm-up
        times = interleave(arms, args.rounds, np.random.default_rng(1), synchroniser(device))
    return [_step_result(ours.threads, count, times)]


def step_arms(ours: Ours, fixed: Fixed, again: Fixed, count: int) -> dict[str, Arm]:
    """Each a block of ``count`` steps."""
    return {
        "ideal": Arm(lambda: fixed.ideal(count), fixed.reset),
        "ideal again": Arm(lambda: again.ideal(count), again.reset),
        "stepper": Arm(lambda: fixed.stepped(count), fixed.reset),
        "lockstep": Arm(lambda: ours.steps(count), lambda: ours.make_room(count)),
    }


def steps_per_round(fixed: Fixed, ours: Ours, device: torch.device) -> int:
    """Steps that take the ideal arm about ROUND_SECONDS, from the quietest of ten looks; at most an epoch."""
    look = {"ideal": Arm(lambda: fixed.ideal(20), fixed.reset)}
    each = min(interleave(look, 10, np.random.default_rng(0), synchroniser(device))["ideal"].wall) / 20
    return max(20, min(int(ROUND_SECONDS / each), ours.session.batches.steps))


def _step_result(threads: int, count: int, times: dict[str, Times]) -> dict[str, Any]:
    ideal = times["ideal"].wall
    control = median_ratio(ideal, times["ideal again"].wall)
    speed = median_ratio(ideal, times["lockstep"].wall)
    noisy = max(control.low - 1, 1 - control.high) > AA_TOLERANCE or control.high - control.low > AA_WIDTH
    return {
        "threads": threads,
        "rounds": len(ideal),
        "steps_per_round": count,
        "microseconds_per_step": {
            name: round(float(np.median(arm.wall)) / count * 1e6, 1) for name, arm in times.items()
        },
        "cpu_per_wall": {name: round(sum(arm.cpu) / sum(arm.wall), 3) for name, arm in times.items()},
        "ideal_to_ideal": control.to_json(),
        "stepper_to_ideal": median_ratio(ideal, times["stepper"].wall).to_json(),
        "speed_to_ideal": speed.to_json(),
        "speed_to_ideal_by_cpu_time": median_ratio(times["ideal"].cpu, times["lockstep"].cpu).to_json(),
        "goal": GOAL_STEP,
        "goal_met": speed.value >= GOAL_STEP,
        "void": f"the machine is too noisy: ideal to ideal is {control}" if noisy else None,
    }


def thread_counts(args: argparse.Namespace) -> list[int]:
    """What torch takes in one process, and one thread."""
    default = torch.get_num_threads()
    return [default] if args.quick or default == 1 else [default, 1]


# --- the report


def _report(document: dict[str, Any]) -> None:
    print(", ".join(f"{key} {value}" for key, value in document["machine"].items() if value is not None))
    print(f"data: {document['data']}, batch {BATCH}, MLP 784-128-10, Adam {LEARNING_RATE}, fp32")
    for result in document["epochs"]:
        seconds = result["seconds_per_epoch"]
        print(f"\nepochs, threads {result['threads']}, {result['epochs']} epochs of each")
        print(f"  tutorial {seconds['tutorial']:.3f} s, lockstep {seconds['lockstep']:.3f} s per epoch")
        _verdict(f"lockstep / tutorial {Estimate(*result['ratio'])}, goal <= {result['goal']}", result)
        for pair in result["accuracy"]:
            print(f"  accuracy {pair['tutorial']:.2%} and {pair['lockstep']:.2%}")
    for result in document["step"]:
        print(
            f"\nstep, {result['threads']} thread(s), {result['rounds']} rounds of {result['steps_per_round']}"
        )
        for name, each in result["microseconds_per_step"].items():
            print(f"  {name:12} {each:8.1f} µs   cpu/wall {result['cpu_per_wall'][name]:.2f}")
        print(f"  ideal / ideal again {Estimate(*result['ideal_to_ideal'])}")
        print(f"  ideal / our stepper on the same batch {Estimate(*result['stepper_to_ideal'])}")
        print(f"  ideal / lockstep by processor time {Estimate(*result['speed_to_ideal_by_cpu_time'])}")
        _verdict(f"ideal / lockstep {Estimate(*result['speed_to_ideal'])}, goal >= {result['goal']}", result)


def _verdict(text: str, result: dict[str, Any]) -> None:
    word = f"void: {result['void']}" if result["void"] else "met" if result["goal_met"] else "missed"
    print(f"  {text}: {word}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times Lockstep on MNIST.")
    parser.add_argument("--data", help="folder that holds MNIST/raw; default $LOCKSTEP_DATA")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--part", choices=["epochs", "step", "both"], default="both")
    parser.add_argument("--rounds", type=int, default=60, help="of the step's measurement")
    parser.add_argument("--trainings", type=int, default=2, help="of five epochs")
    parser.add_argument(
        "--quick", action="store_true", help="a look in half a minute; accuracies are not judged"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.rounds = min(args.rounds, 15) if args.quick else args.rounds
    return args


def main() -> int:
    """Measure, report, and tell whether it can be believed."""
    args = _arguments()
    device = torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu")
    data = open_data(args.data)
    tune_cpu_and_allocator()  # as every rank does, and so for every arm: they share this process
    document = {
        "machine": machine(device),
        "data": data.facts.name,
        "step": [] if args.part == "epochs" else measure_step(data, device, args),
        "epochs": [] if args.part == "step" else measure_epochs(data, device, args),
    }
    print(json.dumps(document, indent=1)) if args.json else _report(document)
    return 1 if any(result["void"] for result in (*document["step"], *document["epochs"])) else 0


if __name__ == "__main__":
    sys.exit(main())

"""A run's learning rates in words and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..process import ask_child

if TYPE_CHECKING:  # pydantic takes 0.2 s
    from ...training.config import RunConfig, RunLength


def schedule_document(
    config: RunConfig, length: RunLength, base: Path, picture: Path | None = None
) -> dict[str, Any]:
    """Return the rates of some steps, of parameters that have no rate of their own.

    Args:
        config: of the run.
        length: of the run.
        base: the folder of the config file.
        picture: a file to draw the schedule into.
    """
    answer: dict[str, Any]
    if picture is None and ":" not in config.schedule.use:
        from ...training.optim import tabulate

        answer = {"rates": tabulate(config.schedule, length, base, _peak(config))}
    else:
        answer = _ask(config, length, base, picture)
    return {
        "use": config.schedule.use,
        "warmup_steps": config.schedule.warmup_steps(length),
        "rates": {str(step): rate for step, rate in answer["rates"]},
        **({"picture": answer["picture"]} if "picture" in answer else {}),
    }


def _ask(config: RunConfig, length: RunLength, base: Path, picture: Path | None) -> dict[str, Any]:
    """Ask a child process: a user's function imports what it likes, and drawing needs matplotlib."""
    from ...training.optim import VIEW_MODULE

    question = {
        "schedule": config.schedule.model_dump(mode="json"),
        "steps_per_epoch": length.steps_per_epoch,
        "steps": length.steps,
        "lr": _peak(config),
        "base": str(base),
        "out": None if picture is None else str(picture),
    }
    return ask_child(VIEW_MODULE, question, "schedule")


def _peak(config: RunConfig) -> float:
    """Return the learning rate that is scheduled; 1 where only the user's own optimizer knows it."""
    return 1.0 if config.optimizer.lr is None else config.optimizer.lr


def schedule_lines(config: RunConfig, length: RunLength, document: dict[str, Any]) -> list[str]:
    """Describe the schedule, with a table of its rates unless they are all the same."""
    rates = {int(step): rate for step, rate in document["rates"].items()}
    head = f"schedule: {config.schedule.use}"
    if config.schedule.warmup is not None:
        head += f" after a warm-up of {document['warmup_steps']:,} steps"
    if (watched := config.monitored_by(config.schedule)) is not None:
        head += f"; the rate is lowered where {watched.monitor} stops improving"
    what = "learning rate" if config.optimizer.lr is not None else "x its own lr"
    if len(set(rates.values())) == 1:
        return [f"{head}, {what} {next(iter(rates.values())):.4g}"]
    rows = [f"{'step':>10}  {'epoch':>8}  {what:>13}"]
    rows += [
        f"{step + 1:>10,}  {step // length.steps_per_epoch + 1:>8,}  {rate:>13.4g}"
        for step, rate in rates.items()
    ]
    return [head, *rows]


def rate_lines(config: RunConfig, length: RunLength, documents: dict[str, dict[str, Any]]) -> list[str]:
    """Describe the schedule of each optimizer; ``documents`` are by its name."""
    lines = []
    for name, part in config.parts().items():
        lines += [f"optimizer {name}: {part.optimizer.use}"] if name else []
        lines += schedule_lines(part, length, documents[name])
    return lines

"""Tabulates and draws a schedule in a short-lived child process: one of a user's own runs the user's code.

Reads one JSON document on stdin and answers with one on stdout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ...data.common import LockstepError, UsageError, answer_parent
from ..config import RunLength, ScheduleConfig
from .schedules import table_steps, tabulate

VIEW_MODULE = "lockstep.training.optim.schedule_view"
_POINTS = 2000  # of a curve: more than a picture has pixels


def draw_schedule(
    curve: list[tuple[int, float]], title: str, out: Path, warmup: int, steps_per_epoch: int
) -> None:
    """Write the picture.

    Args:
        curve: (step, rate).
        title: of the picture.
        out: a PNG file.
        warmup: steps of the warm-up, whose end is marked.
        steps_per_epoch: a second axis counts epochs.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([step for step, _ in curve], [rate for _, rate in curve], drawstyle="steps-post")
    if 0 < warmup <= curve[-1][0]:
        axes.axvline(warmup, color="grey", linestyle=":", label="end of the warm-up")
        axes.legend()
    axes.set(xlabel="step", ylabel="learning rate", title=title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    to_epochs: Any = lambda step: step / steps_per_epoch  # noqa: E731
    to_steps: Any = lambda epoch: epoch * steps_per_epoch  # noqa: E731
    epochs = axes.secondary_xaxis("top", functions=(to_epochs, to_steps))
    epochs.set_xlabel("epoch")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{out}: the picture cannot be written: {error}", "name a .png file in a folder of yours"
        ) from error


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    config = ScheduleConfig.model_validate(request["schedule"])
    length = RunLength(request["steps_per_epoch"], request["steps"])
    base, peak = Path(request["base"]), request["lr"]
    response: dict[str, Any] = {"rates": tabulate(config, length, base, peak, table_steps(config, length))}
    if request["out"] is not None:
        looks = sorted({*range(0, length.steps, max(1, length.steps // _POINTS)), length.steps - 1})
        curve = tabulate(config, length, base, peak, looks)
        out, warmup = Path(request["out"]), config.warmup_steps(length)
        draw_schedule(curve, f"schedule: {config.use}", out, warmup, length.steps_per_epoch)
        response["picture"] = str(out)
    return response


def main() -> None:
    """Answer the request on stdin."""
    try:
        response = _answer(json.load(sys.stdin))
    except LockstepError as error:
        response = {"error": error.to_json()}
    answer_parent(response)


if __name__ == "__main__":
    main()

"""Commands that look at what was trained and take it out: signatures only, as in ``app.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import json_errors
from ..options import SupervisionOptions
from .adopted_world import refuse_copies
from .options import (
    CpuOption,
    DrawnArgument,
    ForceOption,
    GpusOption,
    HangOption,
    IgnoreWorldOption,
    JsonOption,
    RunArgument,
)

app = typer.Typer()

CheckpointOption = Annotated[
    str | None,
    typer.Option(metavar="best|last|STEP", help="Use this checkpoint; `last`, the newest, by default."),
]


@app.command(
    "eval",
    rich_help_panel="Use what was trained",
    epilog="launch eval first --checkpoint best --split test\n"
    "launch eval mine --data ./more.py:data   # on what a function returns",
)
def evaluate(
    run: RunArgument = None,
    *,
    gpus: GpusOption = None,
    cpu: CpuOption = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="STEP|best", help="Evaluate this checkpoint instead of the newest.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Evaluate on this split, such as test, and no other.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|MODULE:FUNCTION",
            help="Evaluate on other data: a file or folder of the run's kind, or what a function returns.",
        ),
    ] = None,
    ignore_world: IgnoreWorldOption = False,
    hang_timeout: HangOption = SupervisionOptions.hang_timeout,
    json: JsonOption = False,
) -> None:
    """Evaluate a trained run on its validation data, or on other data."""
    from ..runs import current_run, has_checkpoint
    from ..train import Evaluation, TrainRequest, evaluate_run

    with json_errors(json=json):
        refuse_copies("eval", ignore_world=ignore_world)
        run = run or current_run(has_checkpoint)
        request = TrainRequest(gpus=gpus, cpu=cpu, json=json, supervision=SupervisionOptions(hang_timeout))
        raise typer.Exit(evaluate_run(run, request, Evaluation(checkpoint, split, data)))


@app.command(
    rich_help_panel="Use what was trained",
    epilog="launch export first --format onnx",
)
def export(
    run: RunArgument = None,
    *,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="safetensors|torch-export|onnx",
            help="The weights alone, or the model as a program.",
        ),
    ] = "safetensors",
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File to write; RUN-stepN by default.")
    ] = None,
    checkpoint: CheckpointOption = None,
    average: Annotated[
        bool | None,
        typer.Option(
            "--ema/--no-ema", help="Export the averaged weights, as evaluation uses them, or those trained."
        ),
    ] = None,
    force: ForceOption = False,
    ignore_world: IgnoreWorldOption = False,
    json: JsonOption = False,
) -> None:
    """Write a run's model to a file for other programs, and check that it answers the same."""
    from ..inference import Export, export_run
    from ..runs import current_run, has_checkpoint

    with json_errors(json=json):
        refuse_copies("export", ignore_world=ignore_world)
        asked = Export(form, out, checkpoint, average, force)
        raise typer.Exit(export_run(run or current_run(has_checkpoint), asked, as_json=json))


@app.command(
    rich_help_panel="Look",
    epilog="launch plot first second",
)
def plot(
    runs: DrawnArgument = None,
    *,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Draw this one, as val/loss or loss; several times for several."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="The picture; RUN-curves.png by default.")
    ] = None,
    smooth: Annotated[
        int | None,
        typer.Option(
            metavar="ROWS", min=0, help="Draw means over this many rows of the record; 0: the rows alone."
        ),
    ] = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Draw the curves of runs, as a picture and here: metrics, learning rate, where they were resumed."""
    from ..report import plot_runs
    from ..runs import current_run, is_training

    with json_errors(json=json):
        runs = runs or [current_run(is_training)]
        raise typer.Exit(plot_runs(runs, metric or [], out, smooth, force=force, as_json=json))


@app.command(
    rich_help_panel="Look",
    epilog="launch report first",
)
def report(
    run: RunArgument = None,
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="The page; RUN-report.html by default.")
    ] = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Write a run or a sweep as one HTML page: curves, settings, epochs, worst samples, attempts, environment."""
    from ..report import report_run
    from ..runs import current_run, is_training

    with json_errors(json=json):
        raise typer.Exit(report_run(run or current_run(is_training), out, force=force, as_json=json))


@app.command(
    rich_help_panel="Look",
    epilog="launch replay first --step 120 --rank 1",
)
def replay(
    run: RunArgument = None,
    *,
    step: Annotated[int, typer.Option(metavar="K", help="The step, counted from 1 as in the record.")],
    rank: Annotated[int | None, typer.Option(metavar="R", help="What this rank had of it only.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.safetensors", help="Write what model and loss got.")
    ] = None,
    force: ForceOption = False,
    ignore_world: IgnoreWorldOption = False,
    json: JsonOption = False,
) -> None:
    """Show which samples a training step was made of, and the loss of each."""
    from ..inference import replay_step
    from ..runs import current_run, is_training

    with json_errors(json=json):
        refuse_copies("replay", ignore_world=ignore_world)
        run = run or current_run(is_training)
        raise typer.Exit(replay_step(run, step, rank, out, force=force, as_json=json))
